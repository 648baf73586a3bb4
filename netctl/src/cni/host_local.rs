//! Addresses from ranges on this host, in the files of the host-local plugin, so that both may be used in turn:
//! `DIR/<network>/<address>` holds `CONTAINERID\r\nIFNAME`, `last_reserved_ip.<set>` where the last one was, `lock`.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use contracts::lock::Lock;

use super::answer::{Answer, Ip};
use super::config::{Config, Dns, Environment, Range, ValidAttachment};
use super::failure::{CHECK_FAILED, INVALID_CONFIG, NO_ADDRESS, fail};
use super::owners::Owners;
use crate::cidr::Cidr;
use crate::state;

const DIRECTORY: &str = "/var/lib/cni/networks";

/// The leases of one network, locked.
#[derive(Debug)]
pub struct Leases {
    dir: PathBuf,
    owners: Owners,
    _lock: Lock,
}

/// One range, complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    subnet: Cidr,
    first: IpAddr,
    last: IpAddr,
    gateway: IpAddr,
}

impl Leases {
    /// Opens them, and makes their directory.
    ///
    /// # Errors
    /// The file system's.
    pub fn open(config: &Config) -> Result<Self> {
        let base = config.ipam.data_dir.clone().filter(|dir| !dir.as_os_str().is_empty());
        let base = base.unwrap_or_else(|| DIRECTORY.into());
        let (dir, owners) = (base.join(&config.name), Owners::new(&base, &config.name));
        fs::create_dir_all(&dir).with_context(|| format!("make directory {}", dir.display()))?;
        let lock = Lock::exclusive(&dir.join("lock"))?;
        Ok(Self { dir, owners, _lock: lock })
    }

    /// ADD: an address from each set.
    ///
    /// # Errors
    /// Numbers 7 and 102; nothing stays leased then.
    pub fn add(&self, config: &Config, environment: &Environment) -> Result<Answer> {
        let sets = sets(config)?;
        let owner = owner(&environment.container, &environment.interface);
        if let Some((address, _)) = self.owners.find(|text| text == owner)?.first() {
            fail!(NO_ADDRESS, "{address} is allocated to {} already", environment.container);
        }
        let mut wanted = wanted(config, environment)?;
        let mut answer =
            Answer { routes: config.ipam.routes.clone(), dns: resolver(config)?, ..Answer::default() };
        for (number, set) in sets.iter().enumerate() {
            let here = wanted.iter().position(|wanted| set.iter().any(|span| span.contains(*wanted)));
            let asked = here.map(|place| wanted.remove(place));
            match self.take(set, number, asked, &owner) {
                Ok(ip) => answer.ips.push(ip),
                Err(err) => {
                    self.remove(environment)?;
                    return Err(err);
                }
            }
        }
        if let Some(address) = wanted.first() {
            self.remove(environment)?;
            fail!(INVALID_CONFIG, "the requested address {address} is in no range");
        }
        Ok(answer)
    }

    fn take(&self, set: &[Span], number: usize, asked: Option<IpAddr>, owner: &str) -> Result<Ip> {
        if let Some(address) = asked {
            let span = set.iter().find(|span| span.contains(address));
            if let Some(span) = span.filter(|span| span.gateway != address) {
                if self.claim(address, owner)? {
                    return Ok(span.ip(address));
                }
                fail!(NO_ADDRESS, "the requested address {address} is allocated already");
            }
            fail!(NO_ADDRESS, "the requested address {address} is the gateway's");
        }
        let cursor = self.dir.join(format!("last_reserved_ip.{number}"));
        let last = state::read(&cursor)?.and_then(|text| text.trim().parse::<IpAddr>().ok());
        let start = last.and_then(|last| {
            let place = set.iter().position(|span| span.contains(last))?;
            Some((place, set[place].offset(last) + 1))
        });
        let (place, offset) = start.unwrap_or_default();
        // From the last one to the end of its range, through the others, and round to where we began.
        let rounds = (0..=set.len()).map(|step| {
            let place = (place + step) % set.len();
            (set[place], if step == 0 { offset } else { 0 })
        });
        for (span, from) in rounds {
            // Nobody has a million containers; a 64-bit range is not walked to its end.
            for step in from..=span.offset(span.last).min(from + (1 << 20)) {
                let address = span.nth(step);
                if address != span.gateway && self.claim(address, owner)? {
                    fs::write(&cursor, address.to_string())
                        .with_context(|| format!("write {}", cursor.display()))?;
                    return Ok(span.ip(address));
                }
            }
        }
        fail!(NO_ADDRESS, "no IP addresses available in range set {number} of {}", self.dir.display())
    }

    fn claim(&self, address: IpAddr, owner: &str) -> Result<bool> {
        let name = address.to_string();
        let path = self.dir.join(&name);
        match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => {
                file.write_all(owner.as_bytes()).with_context(|| format!("write {}", path.display()))?;
                self.owners.note(&name, owner);
                Ok(true)
            }
            Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(err) => Err(err).with_context(|| format!("make {}", path.display())),
        }
    }

    /// DEL: gives back what the attachment has; nothing is no error.
    ///
    /// # Errors
    /// The file system's.
    pub fn remove(&self, environment: &Environment) -> Result<()> {
        let owner = owner(&environment.container, &environment.interface);
        self.keep(|text| text != owner && text != environment.container)
    }

    /// GC: gives back what nobody valid has.
    ///
    /// # Errors
    /// The file system's.
    pub fn collect(&self, valid: &[ValidAttachment]) -> Result<()> {
        self.keep(|text| valid.iter().any(|valid| owner(&valid.container_id, &valid.ifname) == text))
    }

    /// CHECK: the attachment has addresses.
    ///
    /// # Errors
    /// Number 101.
    pub fn check(&self, environment: &Environment) -> Result<()> {
        let owner = owner(&environment.container, &environment.interface);
        if !self.owners.find(|text| text == owner)?.is_empty() {
            return Ok(());
        }
        fail!(CHECK_FAILED, "host-local: no address is leased to {}", environment.container)
    }

    fn keep(&self, keep: impl Fn(&str) -> bool) -> Result<()> {
        for (address, text) in self.owners.find(|text| !keep(text))? {
            self.owners.release(address, &text)?;
        }
        Ok(())
    }
}

fn owner(container: &str, interface: &str) -> String {
    format!("{container}\r\n{interface}")
}

impl Span {
    fn new(range: &Range) -> Result<Self> {
        let Some(subnet) = range.subnet else { fail!(INVALID_CONFIG, "host-local: a range needs a subnet") };
        let v4 = subnet.address.is_ipv4();
        if subnet.size() < 4 {
            fail!(INVALID_CONFIG, "host-local: {subnet} is too small to allocate from");
        }
        let end = subnet.offset(subnet.last()) - u128::from(v4);
        let first = range.range_start.unwrap_or_else(|| subnet.nth(1));
        let last = range.range_end.unwrap_or_else(|| subnet.nth(end));
        let gateway = range.gateway.unwrap_or_else(|| subnet.nth(1));
        for address in [first, last] {
            if !subnet.contains(address) {
                fail!(INVALID_CONFIG, "host-local: {address} is not in {subnet}");
            }
        }
        if subnet.offset(first) > subnet.offset(last) {
            fail!(INVALID_CONFIG, "host-local: the range from {first} to {last} is empty");
        }
        Ok(Self { subnet, first, last, gateway })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let offset = |address| self.subnet.offset(address);
        self.subnet.contains(address) && (offset(self.first)..=offset(self.last)).contains(&offset(address))
    }

    /// How far into the range.
    fn offset(&self, address: IpAddr) -> u128 {
        self.subnet.offset(address) - self.subnet.offset(self.first)
    }

    fn nth(&self, offset: u128) -> IpAddr {
        self.subnet.nth(self.subnet.offset(self.first) + offset)
    }

    fn ip(&self, address: IpAddr) -> Ip {
        Ip { address: self.subnet.with(address), gateway: Some(self.gateway), interface: None }
    }
}

fn sets(config: &Config) -> Result<Vec<Vec<Span>>> {
    let single = config.ipam.single.subnet.is_some().then(|| vec![config.ipam.single.clone()]);
    let all = config.runtime_config.ip_ranges.iter().cloned().chain(single).chain(config.ipam.ranges.clone());
    let mut sets: Vec<Vec<Span>> = Vec::new();
    for set in all.filter(|set| !set.is_empty()) {
        let spans = set.iter().map(Span::new).collect::<Result<Vec<_>>>()?;
        let v4 = |span: &Span| span.subnet.address.is_ipv4();
        if spans.iter().any(|span| v4(span) != v4(&spans[0])) {
            fail!(INVALID_CONFIG, "host-local: a set of ranges mixes IPv4 and IPv6");
        }
        sets.push(spans);
    }
    if sets.is_empty() {
        fail!(INVALID_CONFIG, "host-local: no IP ranges specified");
    }
    Ok(sets)
}

fn wanted(config: &Config, environment: &Environment) -> Result<Vec<IpAddr>> {
    let single = environment.args.get("IP").into_iter();
    let texts = single.chain(&config.args.cni.ips).chain(&config.runtime_config.ips);
    let mut found = Vec::new();
    for text in texts {
        match text.split('/').next().unwrap_or_default().parse::<IpAddr>() {
            Ok(address) if !found.contains(&address) => found.push(address),
            Ok(_) => {}
            Err(_) => fail!(INVALID_CONFIG, "invalid requested address {text:?}"),
        }
    }
    Ok(found)
}

/// `resolvConf`, a file in the form of resolv.conf(5).
fn resolver(config: &Config) -> Result<Dns> {
    let Some(path) = config.ipam.resolv_conf.as_deref().filter(|path| *path != Path::new("")) else {
        return Ok(Dns::default());
    };
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let key = words.next();
        let words = words.map(String::from);
        match key {
            Some("nameserver") => dns.nameservers.extend(words.take(1)),
            Some("domain") => dns.domain = words.take(1).collect(),
            Some("search") => dns.search.extend(words),
            Some("options") => dns.options.extend(words),
            _ => {}
        }
    }
    Ok(dns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path, ranges: &str) -> Config {
        let dir = dir.display();
        let text = format!(
            r#"{{"cniVersion":"1.0.0","name":"n","ipam":{{"type":"host-local","dataDir":"{dir}","ranges":{ranges}}}}}"#
        );
        Config::parse(&text).unwrap().0
    }

    fn who(container: &str) -> Environment {
        Environment { container: container.into(), interface: "eth0".into(), ..Environment::default() }
    }

    #[test]
    fn addresses_rotate_through_all_ranges_of_a_set() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), r#"[[{"subnet":"10.0.0.0/30"},{"subnet":"10.1.0.0/30"}]]"#);
        let leases = Leases::open(&config).unwrap();
        let add = |id: &str| leases.add(&config, &who(id)).map(|answer| answer.ips[0].address.to_string());
        assert_eq!(add("a").unwrap(), "10.0.0.2/30");
        assert_eq!(add("b").unwrap(), "10.1.0.2/30");
        assert!(add("c").unwrap_err().to_string().contains("no IP addresses available"));
        assert!(add("a").is_err(), "twice");
        leases.remove(&who("a")).unwrap();
        leases.remove(&who("a")).unwrap();
        assert_eq!(add("c").unwrap(), "10.0.0.2/30");
        let valid = [ValidAttachment { container_id: "c".into(), ifname: "eth0".into() }];
        leases.collect(&valid).unwrap();
        assert!(leases.check(&who("b")).is_err());
        leases.check(&who("c")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("n/10.0.0.2")).unwrap(), "c\r\neth0");
    }

    #[test]
    fn wanted_addresses_are_had_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(
            dir.path(),
            r#"[[{"subnet":"10.0.0.0/24","rangeStart":"10.0.0.10"}],[{"subnet":"fd00::/64"}]]"#,
        );
        let leases = Leases::open(&config).unwrap();
        let ask = |id: &str, ip: &str| {
            let args = [("IP".to_owned(), ip.to_owned())].into();
            leases.add(&config, &Environment { args, ..who(id) })
        };
        let answer = ask("a", "10.0.0.77").unwrap();
        assert_eq!(answer.ips[0].address.to_string(), "10.0.0.77/24");
        assert_eq!(answer.ips[1].address.to_string(), "fd00::2/64");
        assert!(ask("b", "10.0.0.77").is_err() && ask("b", "10.0.0.5").is_err() && ask("b", "x").is_err());
        assert!(leases.check(&who("b")).is_err(), "a refusal leaves nothing");
    }
}
