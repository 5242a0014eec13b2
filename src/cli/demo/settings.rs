//! The demo's configuration, as the file that an operator would write.

use std::net::SocketAddr;
use std::path::Path;

/// The text of a configuration file. `database` must not exist yet or be an SQLite file of ours.
pub fn settings(public: SocketAddr, database: &Path, datasets: SocketAddr, files: SocketAddr) -> String {
    format!(
        r#"[server]
listen = ["{public}"]

[admin]
listen = "127.0.0.1:0"

[log]
access = "off"

[store]
url = "sqlite://{database}"

[tokens]
issuer = "http://{public}"

[upstreams.datasets]
servers = ["http://{datasets}"]

[upstreams.files]
servers = ["http://{files}"]

[[routes]]
path = "/"
upstream = "datasets"
auth = "public"

[[routes]]
path = "/datasets"
upstream = "datasets"
scopes = ["read:datasets"]

[[routes]]
path = "/datasets/{{id}}"
methods = ["GET", "HEAD"]
upstream = "datasets"
scopes = ["read:datasets"]

[[routes]]
path = "/files/{{*rest}}"
upstream = "files"
scopes = ["read:files"]

[[routes]]
path = "/admin/{{*rest}}"
upstream = "datasets"
scopes = ["admin"]
"#,
        database = database.display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_toml_with_four_protected_routes() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let text = settings(address(8080), Path::new("/tmp/x/tollgate.db"), address(1), address(2));
        let file: toml::Table = text.parse().unwrap();
        assert_eq!(file["store"]["url"].as_str(), Some("sqlite:///tmp/x/tollgate.db"));
        let routes = file["routes"].as_array().unwrap();
        let protected: Vec<_> = routes.iter().filter(|route| route.get("scopes").is_some()).collect();
        assert_eq!((routes.len(), protected.len()), (5, 4));
        assert_eq!(protected[1]["path"].as_str(), Some("/datasets/{id}"));
    }
}
