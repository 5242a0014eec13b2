//! What the demo prints: where things are, and lines to paste.

use std::net::SocketAddr;

/// Where curl keeps the refresh cookie, in the folder of the shell.
const JAR: &str = "tollgate-demo.cookies";

/// What there is to tell.
#[derive(Debug)]
pub struct Demo<'a> {
    /// The gateway.
    pub public: SocketAddr,
    /// Health and metrics.
    pub admin: Option<SocketAddr>,
    /// The sample services, by name.
    pub samples: &'a [(&'a str, SocketAddr)],
    /// Who can log in. Made for this run only, which is why it may be shown.
    pub login: &'a str,
    /// The password of that user.
    pub password: &'a str,
}

/// The text, with commands for any POSIX shell that has curl and sed.
pub fn guide(demo: &Demo<'_>) -> String {
    let Demo { public, admin, samples, login, password } = demo;
    let mut text = format!(
        "Tollgate demo: everything in this process, on loopback only, and gone when it ends. Not for production.\n\n\
         gateway   http://{public}\n"
    );
    for (name, address) in *samples {
        text.push_str(&format!("{name:<9} http://{address}   (behind the gateway)\n"));
    }
    if let Some(admin) = admin {
        text.push_str(&format!("admin     http://{admin}   (/livez /readyz /metrics)\n"));
    }
    text.push_str(&format!("user      {login}   password {password}\n\nPaste into another terminal, in this order:\n"));
    for (purpose, command) in commands(*public, login, password) {
        text.push_str(&format!("\n# {purpose}\n{command}\n"));
    }
    text.push_str("\nCtrl-C ends the demo.\n");
    text
}

/// What each command is for, and the command. Later ones use the variable that the second one sets.
fn commands(public: SocketAddr, login: &str, password: &str) -> Vec<(&'static str, String)> {
    let with_token = r#"-H "Authorization: Bearer $TOKEN""#;
    let no_page = r#"-H "Content-Type: application/json""#;
    vec![
        ("A public route needs nothing", format!("curl -s http://{public}/")),
        (
            "Log in, keep the token, which is good for five minutes, and the cookie, which gets the next one",
            format!(
                "TOKEN=$(curl -s -c {JAR} http://{public}/auth/login -d username={login} -d password={password} | \
                 sed -n 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/p')"
            ),
        ),
        (
            "Read a dataset; the service sees who asks, and no token",
            format!("curl -s {with_token} http://{public}/datasets/co2"),
        ),
        ("Without the token: 401", format!("curl -si http://{public}/datasets/co2; echo")),
        (
            "A scope that the user does not have: 403",
            format!("curl -si {with_token} http://{public}/admin/users; echo"),
        ),
        (
            "A piece of a large file",
            format!("curl -s {with_token} -r 8-23 http://{public}/files/large.bin | od -A d -t x1"),
        ),
        ("A slow stream, line by line", format!("curl -sN {with_token} http://{public}/files/stream")),
        ("What the token says", format!("curl -s {with_token} http://{public}/auth/me; echo")),
        ("The keys that others verify our tokens with", format!("curl -s http://{public}/.well-known/jwks.json; echo")),
        (
            "Refresh: the cookie gets a new token and a new cookie; the header says that no foreign page asks",
            format!("curl -s -b {JAR} -c {JAR} {no_page} -X POST http://{public}/auth/refresh; echo"),
        ),
        ("Where the user is logged in", format!("curl -s {with_token} http://{public}/auth/sessions; echo")),
        ("Log out", format!("curl -s -b {JAR} -c {JAR} {no_page} -X POST http://{public}/auth/logout; echo")),
        (
            "The session is over, and the cookie with it: 401",
            format!("curl -si -b {JAR} {no_page} -X POST http://{public}/auth/refresh; echo"),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_guide_names_the_user_the_addresses_and_that_it_is_a_demo() {
        let public = SocketAddr::from(([127, 0, 0, 1], 8080));
        let samples = [("datasets", SocketAddr::from(([127, 0, 0, 1], 9001)))];
        let text = guide(&Demo { public, admin: None, samples: &samples, login: "ada", password: "pw" });
        for part in
            ["loopback only", "http://127.0.0.1:8080", "datasets  http://127.0.0.1:9001", "user      ada   password pw"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn every_command_is_one_line_that_a_shell_understands() {
        for (purpose, command) in commands(SocketAddr::from(([127, 0, 0, 1], 8080)), "ada", "pw") {
            assert!(!command.contains('\n') && !purpose.contains('\n'));
            let status = Command::new("sh").args(["-n", "-c", &command]).status().unwrap();
            assert!(status.success(), "{command}");
        }
    }

    #[test]
    fn the_token_is_cut_out_of_the_answer() {
        let (_, command) = commands(SocketAddr::from(([127, 0, 0, 1], 8080)), "ada", "pw").remove(1);
        let cut = command.split_once("| ").unwrap().1.strip_suffix(')').unwrap();
        let answer = r#"{"access_token":"a.b-c_d.e","token_type":"bearer","expires_in":300}"#;
        let output = Command::new("sh").args(["-c", &format!("printf %s '{answer}' | {cut}")]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), "a.b-c_d.e");
    }
}
