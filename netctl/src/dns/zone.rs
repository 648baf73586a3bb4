//! What is known of one network's names, in aardvark-dns' file format: the first line `LISTEN[,…][ UPSTREAM[,…]]`, then
//! a line `ID IPV4[,…] IPV6[,…] NAME[,…][ UPSTREAM[,…]]` for each container. The file is named after the network, with
//! `%int` behind it where nobody outside may be asked.

use std::net::IpAddr;

/// Behind the file name of an internal network.
const INTERNAL: &str = "%int";

/// One network's names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    /// The network.
    pub network: String,
    /// The gateway addresses to serve on.
    pub listen: Vec<IpAddr>,
    /// Servers for every other name, where the network has its own; else the host's are asked.
    pub upstream: Vec<IpAddr>,
    /// An internal network asks nobody outside.
    pub internal: bool,
    /// The containers on the network.
    pub entries: Vec<Entry>,
}

/// One container's names and addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entry {
    /// The container's id; empty for one on another host.
    pub id: String,
    /// Its addresses on this network.
    pub addresses: Vec<IpAddr>,
    /// Its name first (that is what an address resolves back to), then aliases.
    pub names: Vec<String>,
    /// Servers that this container asked for instead of the network's.
    pub upstream: Vec<IpAddr>,
}

impl Zone {
    /// Its file's name.
    pub fn file_name(&self) -> String {
        file_name(&self.network, self.internal)
    }

    /// The first line, without its end.
    pub fn header(&self) -> String {
        let listen = list(&self.listen);
        if self.upstream.is_empty() { listen } else { format!("{listen} {}", list(&self.upstream)) }
    }

    /// Reads a file. What makes no sense in it is left out; so is a last line without an end, which is being written.
    pub fn parse(file_name: &str, text: &str) -> Self {
        let (network, internal) = match file_name.strip_suffix(INTERNAL) {
            Some(network) => (network, true),
            None => (file_name, false),
        };
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut lines = complete.split('\n');
        let mut header = lines.next().unwrap_or_default().split(' ');
        let mut next = || addresses(header.next().unwrap_or_default());
        let (listen, upstream) = (next(), next());
        let entries = lines.filter_map(Entry::parse).collect();
        Self { network: network.into(), listen, upstream, internal, entries }
    }
}

impl Entry {
    /// Its line, with its end. Names that the format has no place for are left out: nobody could ask for them.
    pub fn line(&self) -> String {
        let family = |v4: bool| {
            list(&self.addresses.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect::<Vec<_>>())
        };
        let names: Vec<&str> =
            self.names.iter().map(String::as_str).filter(|name| is_writable(name)).collect();
        let mut line = format!("{} {} {} {}", self.id, family(true), family(false), names.join(","));
        if !self.upstream.is_empty() {
            line.push(' ');
            line += &list(&self.upstream);
        }
        line.push('\n');
        line
    }

    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let id = words.next().filter(|id| !id.is_empty())?.to_owned();
        let mut own = addresses(words.next()?);
        own.extend(addresses(words.next()?));
        let names = words.next()?.split(',').filter(|name| !name.is_empty()).map(String::from).collect();
        let upstream = addresses(words.next().unwrap_or_default());
        Some(Self { id, addresses: own, names, upstream })
    }
}

/// The name of a network's file.
pub fn file_name(network: &str, internal: bool) -> String {
    format!("{network}{}", if internal { INTERNAL } else { "" })
}

/// Whether the format has a place for that name.
pub fn is_writable(name: &str) -> bool {
    !name.is_empty() && !name.contains([' ', ',', '\n'])
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

fn addresses(text: &str) -> Vec<IpAddr> {
    text.split(',').filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let entry = Entry {
            id: "abc".into(),
            addresses: vec!["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            names: vec!["web".into(), "w 2".into(), "alias".into()],
            upstream: vec!["9.9.9.9".parse().unwrap()],
        };
        assert_eq!(entry.line(), "abc 10.0.0.2 fd00::2 web,alias 9.9.9.9\n");
        let text = format!("10.0.0.1,fd00::1 8.8.8.8\n{}x 10.0.0.3  y\nhalf 10.0.0.4  z", entry.line());
        let zone = Zone::parse("net%int", &text);
        assert_eq!((zone.network.as_str(), zone.internal, zone.listen.len()), ("net", true, 2));
        assert_eq!(zone.header(), "10.0.0.1,fd00::1 8.8.8.8");
        assert_eq!(zone.entries.len(), 2);
        assert_eq!(zone.entries[1].names, ["y"]);
        assert_eq!((zone.entries[0].line(), zone.file_name().as_str()), (entry.line(), "net%int"));
    }

    #[test]
    fn nonsense_is_left_out() {
        for text in ["", "\n", "x", "\n\n \n  \na\nb c\nd e f\n", "10.0.0.1\n\0\n"] {
            assert!(Zone::parse("n", text).entries.is_empty(), "{text:?}");
        }
    }
}
