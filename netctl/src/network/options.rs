//! `--opt KEY=VALUE`: what each driver takes, under the names that users of docker and podman write.

use std::net::IpAddr;

use anyhow::Result;
use contracts::fault;

use super::Network;
use super::peers::Backend;
use crate::firewall::{Isolation, Nat};
use crate::netlink::link::Mode;

const BRIDGES: &[&str] = &["bridge", "overlay"];
const SLICES: &[&str] = &["macvlan", "ipvlan"];
const OVERLAY: &[&str] = &["overlay"];
const ALL: &[&str] = &["bridge", "overlay", "macvlan", "ipvlan"];

/// Our name, the drivers that know it, and what users write.
const OPTIONS: [(&str, &[&str], &[&str]); 30] = [
    ("mtu", ALL, &["mtu", "com.docker.network.driver.mtu"]),
    ("icc", BRIDGES, &["icc", "com.docker.network.bridge.enable_icc"]),
    ("masquerade", BRIDGES, &["masquerade", "com.docker.network.bridge.enable_ip_masquerade"]),
    ("name", BRIDGES, &["com.docker.network.bridge.name"]),
    ("gateway_mode", BRIDGES, &["gateway_mode"]),
    ("gateway_mode_ipv4", BRIDGES, &["gateway_mode_ipv4", "com.docker.network.bridge.gateway_mode_ipv4"]),
    ("gateway_mode_ipv6", BRIDGES, &["gateway_mode_ipv6", "com.docker.network.bridge.gateway_mode_ipv6"]),
    ("inhibit_ipv4", BRIDGES, &["inhibit_ipv4", "com.docker.network.bridge.inhibit_ipv4"]),
    (
        "host_binding_ipv4",
        BRIDGES,
        &["host_binding", "host_binding_ipv4", "com.docker.network.bridge.host_binding_ipv4"],
    ),
    ("host_binding_ipv6", BRIDGES, &["host_binding_ipv6", "com.docker.network.bridge.host_binding_ipv6"]),
    (
        "trusted_host_interfaces",
        BRIDGES,
        &["trusted_host_interfaces", "com.docker.network.bridge.trusted_host_interfaces"],
    ),
    ("outbound_addr4", BRIDGES, &["outbound_addr4", "com.docker.network.host_ipv4"]),
    ("outbound_addr6", BRIDGES, &["outbound_addr6", "com.docker.network.host_ipv6"]),
    ("isolate", BRIDGES, &["isolate"]),
    ("hairpin", BRIDGES, &["hairpin"]),
    ("vlan", BRIDGES, &["vlan"]),
    ("vrf", BRIDGES, &["vrf"]),
    ("container_iface_prefix", ALL, &["container_iface_prefix", "com.docker.network.container_iface_prefix"]),
    ("metric", ALL, &["metric"]),
    ("no_default_route", ALL, &["no_default_route"]),
    ("parent", SLICES, &["parent"]),
    ("bclim", &["macvlan"], &["bclim"]),
    ("mode", SLICES, &["mode", "macvlan_mode", "ipvlan_mode"]),
    ("peers", OVERLAY, &["peers"]),
    ("local", OVERLAY, &["local"]),
    ("backend", OVERLAY, &["backend"]),
    ("hosts", OVERLAY, &["hosts"]),
    ("vxlan-id", OVERLAY, &["vxlan-id", "com.docker.network.driver.overlay.vxlanid_list"]),
    ("port", OVERLAY, &["port"]),
    ("encrypted", OVERLAY, &["encrypted"]),
];

/// A name that an interface can have.
///
/// # Errors
/// `Usage`; `what` says whose name it is.
pub fn check_interface(what: &str, name: &str) -> Result<()> {
    let plain = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    if name.is_empty() || name.len() > 15 || !plain || name == "." || name == ".." {
        fault!(Usage, "invalid {what} name {name:?}: 1 to 15 characters without / : or spaces");
    }
    Ok(())
}

impl Network {
    /// The value of an option by our name.
    pub fn option(&self, name: &str) -> Option<&str> {
        let (_, _, spellings) = OPTIONS.iter().find(|(known, _, _)| *known == name)?;
        spellings.iter().find_map(|spelling| self.options.get(*spelling)).map(String::as_str)
    }

    fn switch(&self, name: &str, default: bool) -> Result<bool> {
        match self.option(name) {
            None => Ok(default),
            Some("true" | "1" | "") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => fault!(Usage, "network option {name}={other}: not true or false"),
        }
    }

    /// A number within bounds.
    ///
    /// # Errors
    /// `Usage`, naming both.
    pub fn number(&self, name: &str, least: u32, most: u32) -> Result<Option<u32>> {
        let Some(text) = self.option(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(Some(number)),
            _ => fault!(Usage, "network option {name}={text}: not a number from {least} to {most}"),
        }
    }

    fn address(&self, name: &str, v4: bool) -> Result<Option<IpAddr>> {
        let Some(text) = self.option(name) else { return Ok(None) };
        match text.parse::<IpAddr>() {
            Ok(address) if address.is_ipv4() == v4 => Ok(Some(address)),
            _ => {
                fault!(Usage, "network option {name}={text}: not an IPv{} address", if v4 { 4 } else { 6 })
            }
        }
    }

    /// Reads every option once, so that a wrong or unknown one is refused when the network is made.
    ///
    /// # Errors
    /// `Usage`, naming the option.
    pub fn check_options(&mut self) -> Result<()> {
        for key in self.options.keys() {
            let known = OPTIONS.iter().find(|(_, _, spellings)| spellings.contains(&key.as_str()));
            if !known.is_some_and(|(_, drivers, _)| drivers.contains(&self.driver.as_str())) {
                fault!(Usage, "unknown option {key} for a {} network", self.driver);
            }
        }
        if let Some(name) = self.option("name") {
            check_interface("bridge", name)?;
            self.interface = name.into();
        }
        self.mtu()?;
        self.vlan()?;
        self.hairpin()?;
        self.metric()?;
        self.has_default_route()?;
        self.slice_mode()?;
        self.broadcast_limit()?;
        self.zone()?;
        self.backend()?;
        self.number("hosts", 1, 4096)?;
        self.number("port", 1, 65535)?;
        self.number("vxlan-id", 1, 0xff_ffff)?;
        for v4 in [true, false] {
            self.host_binding(v4)?;
            self.hides_behind(v4)?;
        }
        if let Some(name) = self.option("vrf") {
            check_interface("vrf", name)?;
        }
        if let Some(prefix) = self.option("container_iface_prefix") {
            // Two digits must fit behind it.
            check_interface("interface", &format!("{prefix}00"))?;
        }
        if self.switch("encrypted", false)? {
            fault!(Unsupported, "overlay networks are not encrypted: run them over WireGuard or IPsec");
        }
        self.check_parent()
    }

    fn check_parent(&mut self) -> Result<()> {
        if !SLICES.contains(&self.driver.as_str()) {
            return Ok(());
        }
        let Some(parent) = self.option("parent") else {
            fault!(Usage, "a {} network needs --opt parent=INTERFACE", self.driver);
        };
        if parent == "lo" {
            fault!(Usage, "loopback interface is not a valid {} parent link", self.driver);
        }
        check_interface("parent", parent)?;
        self.interface = parent.into();
        Ok(())
    }

    /// Whether its containers are ports of a bridge.
    pub fn is_bridge(&self) -> bool {
        BRIDGES.contains(&self.driver.as_str())
    }

    /// The MTU asked for.
    ///
    /// # Errors
    /// `Usage` where it is no number a link can have.
    pub fn mtu(&self) -> Result<Option<u32>> {
        self.number("mtu", 68, 65535)
    }

    /// Whether containers on it reach each other directly.
    ///
    /// # Errors
    /// `Usage` where the option is neither true nor false.
    pub fn icc(&self) -> Result<bool> {
        self.switch("icc", true)
    }

    /// Whether the bridge sends frames back where they came from.
    ///
    /// # Errors
    /// As [`Self::icc`].
    pub fn hairpin(&self) -> Result<bool> {
        self.switch("hairpin", true)
    }

    /// The VLAN that its containers are in on the bridge.
    ///
    /// # Errors
    /// `Usage`.
    pub fn vlan(&self) -> Result<Option<u32>> {
        self.number("vlan", 1, 4094)
    }

    /// The metric of its default routes; 0 is the kernel's choice.
    ///
    /// # Errors
    /// `Usage`.
    pub fn metric(&self) -> Result<u32> {
        Ok(self.number("metric", 0, u32::MAX)?.unwrap_or(0))
    }

    /// Whether containers get a default route by it.
    ///
    /// # Errors
    /// `Usage`.
    pub fn has_default_route(&self) -> Result<bool> {
        Ok(!self.switch("no_default_route", false)?)
    }

    /// Whether others have the gateway's IPv4 address, so that the bridge must not.
    ///
    /// # Errors
    /// `Usage`.
    pub fn inhibits_ipv4(&self) -> Result<bool> {
        self.switch("inhibit_ipv4", false)
    }

    /// What interfaces inside are called, before a number.
    pub fn interface_prefix(&self) -> &str {
        self.option("container_iface_prefix").unwrap_or("eth")
    }

    /// The host's address for ports that are published without one.
    ///
    /// # Errors
    /// `Usage`.
    pub fn host_binding(&self, v4: bool) -> Result<Option<IpAddr>> {
        self.address(if v4 { "host_binding_ipv4" } else { "host_binding_ipv6" }, v4)
    }

    /// The host's address that packets on their way out hide behind; `None` for that of the interface they leave by.
    ///
    /// # Errors
    /// `Usage`.
    pub fn hides_behind(&self, v4: bool) -> Result<Option<IpAddr>> {
        self.address(if v4 { "outbound_addr4" } else { "outbound_addr6" }, v4)
    }

    /// See [`crate::netlink::link::Slice`].
    ///
    /// # Errors
    /// `Usage`.
    pub fn broadcast_limit(&self) -> Result<Option<i32>> {
        let Some(text) = self.option("bclim") else { return Ok(None) };
        match text.parse() {
            Ok(limit) => Ok(Some(limit)),
            Err(_) => fault!(Usage, "network option bclim={text}: not a number"),
        }
    }

    /// How packets of one family get out and in.
    ///
    /// # Errors
    /// `Usage`.
    pub fn nat(&self, v4: bool) -> Result<Nat> {
        let own = if v4 { "gateway_mode_ipv4" } else { "gateway_mode_ipv6" };
        let masquerade = self.switch("masquerade", true)?;
        match self.option(own).or(self.option("gateway_mode")) {
            None | Some("nat") => Ok(Nat { masquerade, routed: false }),
            Some("nat-unprotected") => Ok(Nat { masquerade, routed: true }),
            Some("routed") => Ok(Nat { masquerade: false, routed: true }),
            Some("isolated") if self.internal => Ok(Nat::default()),
            Some("isolated") => fault!(Usage, "gateway mode isolated is for networks made with --internal"),
            Some(other) => {
                fault!(Usage, "network option {own}={other}: nat, nat-unprotected, routed or isolated")
            }
        }
    }

    /// Whether the bridge has an address in that family: it is the containers' way out, or at least to this host.
    ///
    /// # Errors
    /// `Usage`.
    pub fn is_addressed(&self, v4: bool) -> Result<bool> {
        let own = if v4 { "gateway_mode_ipv4" } else { "gateway_mode_ipv6" };
        let isolated = self.option(own).or(self.option("gateway_mode")) == Some("isolated");
        Ok(self.is_bridge() && !isolated && !(v4 && self.inhibits_ipv4()?))
    }

    /// Podman's `isolate`.
    ///
    /// # Errors
    /// `Usage`.
    pub fn isolation(&self) -> Result<Isolation> {
        match self.option("isolate") {
            None | Some("false" | "0") => Ok(Isolation::No),
            Some("true" | "1") => Ok(Isolation::Some),
            Some("strict") => Ok(Isolation::Strict),
            Some(other) => fault!(Usage, "network option isolate={other}: true, false or strict"),
        }
    }

    /// Interfaces behind which everybody may reach the containers directly.
    pub fn trusted(&self) -> Vec<String> {
        let text = self.option("trusted_host_interfaces").unwrap_or_default();
        text.split(':').filter(|name| !name.is_empty()).map(String::from).collect()
    }

    /// How containers share the parent.
    ///
    /// # Errors
    /// `Usage`.
    pub fn slice_mode(&self) -> Result<Mode> {
        let mode = self.option("mode");
        Ok(match (self.driver.as_str(), mode) {
            ("ipvlan", None | Some("l2")) => Mode::Ipvlan(0),
            ("ipvlan", Some("l3")) => Mode::Ipvlan(1),
            ("ipvlan", Some("l3s")) => Mode::Ipvlan(2),
            ("ipvlan", Some(other)) => fault!(Usage, "ipvlan mode {other:?}: l2, l3 or l3s"),
            (_, None | Some("bridge")) => Mode::MACVLAN_BRIDGE,
            (_, Some("private")) => Mode::Macvlan(1),
            (_, Some("vepa")) => Mode::Macvlan(2),
            (_, Some("passthru")) => Mode::Macvlan(8),
            (_, Some(other)) => fault!(Usage, "macvlan mode {other:?}: bridge, private, vepa or passthru"),
        })
    }

    /// What carries frames between the hosts of an overlay.
    ///
    /// # Errors
    /// `Usage`.
    pub fn backend(&self) -> Result<Backend> {
        match self.option("backend") {
            None | Some("vxlan") => Ok(Backend::Vxlan),
            Some("host-gw" | "routes") => Ok(Backend::Routes),
            Some("gre") => Ok(Backend::Gre),
            Some(other) => fault!(Usage, "network option backend={other}: vxlan, host-gw or gre"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(driver: &str, options: &[(&str, &str)]) -> Result<Network> {
        let mut network = Network::new("n").unwrap();
        network.driver = driver.into();
        network.options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        network.check_options().map(|()| network)
    }

    #[test]
    fn options_are_checked_when_the_network_is_made() {
        for (key, value) in [
            ("mtu", "1"),
            ("mtu", "x"),
            ("icc", "maybe"),
            ("gateway_mode", "x"),
            ("gateway_mode", "isolated"),
            ("nosuch", ""),
            ("peers", "10.0.0.1"),
            ("parent", "eth0"),
            ("vlan", "4095"),
            ("vrf", "a b"),
            ("isolate", "perhaps"),
            ("host_binding_ipv4", "::1"),
            ("outbound_addr4", "::1"),
            ("com.docker.network.host_ipv6", "10.0.0.1"),
            ("bclim", "5"),
            ("container_iface_prefix", "fourteen-letters"),
            ("com.docker.network.bridge.name", "a/b"),
        ] {
            assert!(with("bridge", &[(key, value)]).is_err(), "{key}={value}");
        }
        assert_eq!(with("bridge", &[("com.docker.network.bridge.name", "br9")]).unwrap().interface, "br9");
        assert!(with("macvlan", &[]).is_err() && with("macvlan", &[("parent", "lo")]).is_err());
        assert!(with("macvlan", &[("parent", "eth0"), ("mode", "l2")]).is_err());
        assert_eq!(with("ipvlan", &[("parent", "e"), ("mode", "l3")]).unwrap().interface, "e");
        assert!(with("overlay", &[("backend", "smoke")]).is_err());
        assert!(with("overlay", &[("encrypted", "")]).is_err());
    }

    #[test]
    fn each_family_has_its_own_way_out() {
        let network = with(
            "bridge",
            &[
                ("com.docker.network.bridge.gateway_mode_ipv6", "routed"),
                ("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1"),
            ],
        )
        .unwrap();
        assert_eq!(network.nat(true).unwrap(), Nat { masquerade: true, routed: false });
        assert_eq!(network.nat(false).unwrap(), Nat { masquerade: false, routed: true });
        assert_eq!(network.host_binding(true).unwrap(), Some("127.0.0.1".parse().unwrap()));
    }
}
