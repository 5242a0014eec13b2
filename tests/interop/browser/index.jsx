// An admin page as people write it for ra-in-memory-jwt: the package as it is on npm, an authProvider and a dataProvider by its
// documentation. Nothing in here knows which server it talks to; `API` is where that is.
import React from 'react';
import { render } from 'react-dom';
import { Admin, Datagrid, EmailField, fetchUtils, List, Resource, TextField } from 'react-admin';
import jsonServerProvider from 'ra-data-json-server';
import inMemoryJWT from 'ra-in-memory-jwt';

const API = new URLSearchParams(window.location.search).get('api');
inMemoryJWT.setRefreshTokenEndpoint(`${API}/refresh-token`);

const json = () => new Headers({ 'Content-Type': 'application/json' });

const authProvider = {
    login: ({ username, password }) =>
        fetch(`${API}/authenticate`, {
            method: 'POST',
            body: JSON.stringify({ username, password }),
            headers: json(),
            credentials: 'include',
        })
            .then((response) => {
                if (response.status < 200 || response.status >= 300) {
                    throw new Error(response.statusText);
                }
                return response.json();
            })
            .then(({ token, tokenExpiry }) => inMemoryJWT.setToken(token, tokenExpiry)),
    logout: () =>
        fetch(`${API}/logout`, { method: 'GET', headers: json(), credentials: 'include' })
            .then(() => inMemoryJWT.ereaseToken())
            .then(() => '/login'),
    checkAuth: () =>
        inMemoryJWT.waitForTokenRefresh().then(() => (inMemoryJWT.getToken() ? Promise.resolve() : Promise.reject())),
    checkError: ({ status }) => {
        if (status === 401 || status === 403) {
            inMemoryJWT.ereaseToken();
            return Promise.reject();
        }
        return Promise.resolve();
    },
    getPermissions: () =>
        inMemoryJWT.waitForTokenRefresh().then(() => (inMemoryJWT.getToken() ? Promise.resolve() : Promise.reject())),
};

const httpClient = (url) => {
    const options = { headers: new Headers({ Accept: 'application/json' }) };
    const token = inMemoryJWT.getToken();
    if (token) {
        options.headers.set('Authorization', `Bearer ${token}`);
        return fetchUtils.fetchJson(url, options);
    }
    return inMemoryJWT.getRefreshedToken().then((gotFreshToken) => {
        if (gotFreshToken) {
            options.headers.set('Authorization', `Bearer ${inMemoryJWT.getToken()}`);
        }
        return fetchUtils.fetchJson(url, options);
    });
};

const Users = (props) => (
    <List {...props} bulkActionButtons={false} exporter={false}>
        <Datagrid>
            <TextField source="id" />
            <TextField source="name" />
            <EmailField source="email" />
        </Datagrid>
    </List>
);

render(
    <Admin authProvider={authProvider} dataProvider={jsonServerProvider(`${API}/api`, httpClient)}>
        <Resource name="users" list={Users} />
    </Admin>,
    document.getElementById('root')
);
