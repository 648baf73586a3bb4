//! Which proxy stands before a registry: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, read as docker, podman
//! and skopeo read them.

use std::env;
use std::net::IpAddr;

use anyhow::Result;
use contracts::fault;
use ureq::Proxy;

use super::hosts::{host_only, in_network, is_loopback};

/// The proxy for requests of `scheme` to `host[:port]`.
///
/// # Errors
/// A variable that is no address of a proxy.
pub fn of(scheme: &str, host: &str) -> Result<Option<Proxy>> {
    let read = |name: &str| {
        let value = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        value(name).or_else(|| value(&name.to_lowercase()))
    };
    // As everybody does: a proxy cannot reach our loopback.
    if is_loopback(host) || read("NO_PROXY").is_some_and(|list| excepted(&list, scheme, host)) {
        return Ok(None);
    }
    let own = if scheme == "https" { "HTTPS_PROXY" } else { "HTTP_PROXY" };
    let Some(address) = read(own).or_else(|| read("ALL_PROXY")) else { return Ok(None) };
    let address = if address.contains("://") { address } else { format!("http://{address}") };
    match Proxy::new(&address) {
        Ok(proxy) => Ok(Some(proxy)),
        // Not the address itself, which may hold a password.
        Err(err) => fault!(Usage, "{own}: not the address of a proxy: {err}"),
    }
}

/// `*`, `example.com` (and what is below), `.example.com` (only that), an address, a network; each may have a port.
fn excepted(list: &str, scheme: &str, host: &str) -> bool {
    let name = host_only(host).to_lowercase();
    let usual = if scheme == "https" { "443" } else { "80" };
    let port = host.rsplit_once(':').map(|(_, port)| port).filter(|port| port.parse::<u16>().is_ok());
    let address = name.parse::<IpAddr>().ok();
    list.split(',').map(|entry| entry.trim().to_lowercase()).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        if let Some(address) = address
            && in_network(address, &entry) == Some(true)
        {
            return true;
        }
        let (own, told) = match entry.rsplit_once(':') {
            Some((own, told)) if told.parse::<u16>().is_ok() && !own.contains(':') => (own, Some(told)),
            _ => (entry.as_str(), None),
        };
        if told.is_some_and(|told| told != port.unwrap_or(usual)) {
            return false;
        }
        let own = own.trim_start_matches('*');
        match own.strip_prefix('.') {
            Some(_) => name.ends_with(own),
            None => name == own || name.strip_suffix(own).is_some_and(|rest| rest.ends_with('.')),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::excepted;

    #[test]
    fn exceptions_as_go_reads_them() {
        for (list, host, wanted) in [
            ("*", "r.io", true),
            ("example.com", "example.com", true),
            ("example.com", "r.example.com:5000", true),
            ("example.com", "badexample.com", false),
            (".example.com", "example.com", false),
            ("*.example.com, x", "r.example.com", true),
            ("r.io:5000", "r.io:5000", true),
            ("r.io:5000", "r.io", false),
            ("r.io:443", "r.io", true),
            ("10.0.0.0/8", "10.1.2.3:5000", true),
            ("10.0.0.0/8", "11.1.2.3", false),
            ("10.1.2.3", "10.1.2.3:5000", true),
            ("", "r.io", false),
        ] {
            assert_eq!(excepted(list, "https", host), wanted, "{list} {host}");
        }
    }
}
