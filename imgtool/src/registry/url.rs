//! Parts of URLs.

/// `scheme://host:port` of a URL.
pub fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    &url[..end]
}

/// A URL without its query, which may be signed.
pub fn without_secrets(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn origins_tell_hosts_and_ports_apart() {
        assert_eq!(origin("https://a.b:1/v2/x?y"), "https://a.b:1");
        assert_eq!(origin("http://a?x"), "http://a");
        assert_ne!(origin("https://a.b/"), origin("https://a.b.evil/"));
    }
}
