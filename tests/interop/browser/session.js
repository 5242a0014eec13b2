// A session with plain fetch: the access token stays in memory, the refresh token is a cookie that no script can read.
export function session(gateway) {
    let token, expiresAt, refreshing;
    const post = (path, body) =>
        fetch(gateway + path, {
            method: 'POST',
            credentials: 'include',
            headers: { 'Content-Type': 'application/json' },
            body: body && JSON.stringify(body),
        });
    const keep = async (response) => {
        const answer = await response.json();
        if (!response.ok) {
            token = undefined;
            throw Object.assign(new Error(answer.message), { status: response.status });
        }
        token = answer.access_token;
        expiresAt = Date.now() + (answer.expires_in - 10) * 1000;
    };
    // One refresh at a time, whoever asks for it.
    const refresh = () => (refreshing ??= post('/auth/refresh').then(keep).finally(() => (refreshing = undefined)));
    return {
        login: (username, password) => post('/auth/login', { username, password }).then(keep),
        logout: () => post('/auth/logout').then(() => (token = undefined)),
        async fetch(path, options = {}) {
            if (!token || Date.now() > expiresAt) await refresh();
            const headers = { ...options.headers, Authorization: `Bearer ${token}` };
            return fetch(gateway + path, { ...options, headers });
        },
    };
}
