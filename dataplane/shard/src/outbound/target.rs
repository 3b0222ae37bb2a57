//! Where an outbound request goes, by its URL.

use super::FetchError;
use super::stream::Origin;
use url::{Host, Url};

/// A URL taken apart for a request.
pub(crate) struct Target {
    pub(crate) origin: Origin,
    pub(crate) authority: String,
    pub(crate) path: String,
}

impl Target {
    pub(crate) fn parse(url: &str) -> Result<Target, FetchError> {
        let url = Url::parse(url).map_err(|error| FetchError(format!("invalid URL: {error}")))?;
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            other => return Err(FetchError(format!("the scheme {other} is not supported"))),
        };
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err("the URL has no host".into());
        };
        let authority = match url.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let host = match host {
            Host::Domain(name) => name.trim_end_matches('.').to_ascii_lowercase(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let mut path = url.path().to_owned();
        if let Some(query) = url.query() {
            path.push('?');
            path.push_str(query);
        }
        Ok(Target { origin: Origin { tls, host, port }, authority, path })
    }
}
