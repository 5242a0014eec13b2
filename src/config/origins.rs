//! `login.allowed_origins` and `login.exposed_headers`: what pages of other sites may see.

use http::HeaderName;

use crate::gateway::CorsSettings;
use crate::request::web_origin::{AllowedOrigins, OriginError, SCHEMES, WebOrigin};

use super::reader::{Fault, Findings, Section, names};
use super::value::{distinct, text};

pub(super) fn cors(file: &Section<'_>, findings: &mut Findings) -> Option<CorsSettings> {
    // What is wrong with the table itself was noted with the endpoints.
    let section = file.table("login", &mut Findings::default())?;
    let allowed_origins = section.read("allowed_origins", findings, distinct(text(origin)));
    let exposed_headers = section.read("exposed_headers", findings, distinct(text(header)));
    for origin in allowed_origins.iter().flatten().filter(|origin| origin.is_in_the_clear()) {
        let message = format!("`{origin}` in `login.allowed_origins` is reached without TLS");
        let hint = "whoever is on the way to it can act for the people logged in; serve the site over https";
        findings.warnings.push(section.problem("allowed_origins", message).hint(hint));
    }
    Some(CorsSettings { allowed_origins: AllowedOrigins::new(allowed_origins?), exposed_headers: exposed_headers? })
}

fn origin(text: &str) -> Result<WebOrigin, Fault> {
    text.parse().map_err(|error: OriginError| {
        let hint = match error {
            OriginError::Wildcard | OriginError::Null => "name each site, as in \"https://app.example.org\"".to_owned(),
            OriginError::NoScheme => "write the scheme, too, as in \"https://app.example.org\"".to_owned(),
            OriginError::Scheme => format!("the schemes are {}", names(SCHEMES)),
            OriginError::More => {
                "write it as browsers do, without a path and without a `/` at the end: \"https://app.example.org\""
                    .to_owned()
            }
            OriginError::Host => {
                "write letters, digits, `-`, `_` and `.`, and names in other letters as browsers send them: \"xn--…\""
                    .to_owned()
            }
            OriginError::Port => "leave it out, or write a number from 1 to 65535".to_owned(),
        };
        Fault::new(error.to_string()).hint(hint)
    })
}

fn header(text: &str) -> Result<HeaderName, Fault> {
    if text.contains('*') {
        let fault = Fault::new("has a `*`, which browsers take for a header of that name when cookies are sent");
        return Err(fault.hint("name each header"));
    }
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| Fault::new("is not the name of a header"))
}
