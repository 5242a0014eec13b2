// A session with plain fetch: the access token stays in memory, the refresh token is a cookie that no script can read.
export function session(gateway) {
    let token, expiresAt, refreshing;
    const authorized = (headers) => {
        const all = new Headers(headers);
        if (token) all.set('Authorization', `Bearer ${token}`);
        return all;
    };
    const post = async (path, body, headers = new Headers()) => {
        headers.set('Content-Type', 'application/json');
        const options = { method: 'POST', credentials: 'include', headers, body: body && JSON.stringify(body) };
        const response = await fetch(gateway + path, options);
        const answer = await response.json().catch(() => ({ message: response.statusText }));
        if (!response.ok) throw Object.assign(new Error(answer.message), { status: response.status });
        return answer;
    };
    const keep = (answer) => {
        token = answer.access_token;
        expiresAt = Date.now() + (answer.expires_in - 10) * 1000;
    };
    // One refresh at a time, whoever asks for it.
    const refresh = () => (refreshing ??= post('/auth/refresh').then(keep).finally(() => (refreshing = undefined)));
    return {
        login: (username, password) => post('/auth/login', { username, password }).then(keep),
        // With the access token besides: after a try that failed the cookie is gone, and it still says which session is to end.
        logout: () => post('/auth/logout', undefined, authorized()).then(() => (token = undefined)),
        async fetch(path, options = {}) {
            const send = () => fetch(gateway + path, { ...options, headers: authorized(options.headers) });
            if (!token || Date.now() > expiresAt) await refresh();
            const sent = token;
            const response = await send();
            if (response.status !== 401) return response;
            // Refused before its time: another request may have got the next one meanwhile. One try, not a loop.
            if (token === sent) await refresh();
            return send();
        },
    };
}
