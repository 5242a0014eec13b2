//! `[[login.aliases]]`: where clients of other servers find the login.

use crate::issuer::{Alias, Aliases, Deed, Dialect, LoginSettings};
use crate::route::Route;

use super::login::plain_path;
use super::reader::{Findings, Section};
use super::value::{choice, text};

/// The aliases, none of which is at a place that is taken. `login` and `routes` are `None` if they cannot be used.
pub(super) fn aliases(
    file: &Section<'_>,
    login: Option<&LoginSettings>,
    routes: Option<&[Route]>,
    findings: &mut Findings,
) -> Option<Aliases> {
    // What is wrong with the table itself was noted with the endpoints.
    let section = file.table("login", &mut Findings::default())?;
    let mut aliases: Vec<Option<Alias>> = Vec::new();
    for section in section.list("aliases", findings) {
        let alias = alias(&section, findings);
        let taken = alias.as_ref().and_then(|alias| {
            let earlier = aliases.iter().flatten().any(|earlier: &Alias| earlier.path == alias.path);
            if earlier { Some("is another alias already".to_owned()) } else { taken(&alias.path, login, routes) }
        });
        match taken {
            None => aliases.push(alias),
            Some(by) => {
                let hint = "an alias is an exact path where nothing else is";
                findings.problems.push(section.problem("path", format!("`{}.path` {by}", section.path)).hint(hint));
                aliases.push(None);
            }
        }
    }
    aliases.into_iter().collect::<Option<Vec<Alias>>>().map(Aliases::new)
}

fn alias(section: &Section<'_>, findings: &mut Findings) -> Option<Alias> {
    let path = section.read("path", findings, text(plain_path));
    let does = section.read("does", findings, text(choice(&DEEDS)));
    let profile = section.read("profile", findings, text(choice(&Dialect::ALL)));
    Some(Alias { path: path?, does: does?, profile: profile? })
}

/// What stands at a path already, to be said after its name. A route with parameters stands nowhere in particular: the alias, which
/// is more specific, goes before it.
fn taken(path: &str, login: Option<&LoginSettings>, routes: Option<&[Route]>) -> Option<String> {
    let is_below =
        |folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if let Some(login) = login.filter(|login| is_below(&login.prefix)) {
        return Some(format!("lies below `login.prefix`, `{}`, where the endpoints themselves are", login.prefix));
    }
    if is_below("/.well-known") {
        return Some("lies below `/.well-known`, where clients look for documents".to_owned());
    }
    let route = routes?.iter().find(|route| route.path.as_str() == path)?;
    Some(format!("is the path of route `{}`", route.name))
}

/// What an alias can do, by the words of the file.
const DEEDS: [(&str, Deed); 4] =
    [("login", Deed::Login), ("refresh", Deed::Refresh), ("logout", Deed::Logout), ("me", Deed::Me)];
