//! Subnets for networks that name none.

use anyhow::{Result, bail};

use super::definition::{Pool, Subnet};
use crate::cidr::Cidr;
use crate::network::pool::choose_v6;

/// So often a random subnet may be somebody's.
const TRIES: u32 = 10_000;
/// So many subnets of a pool are looked at.
const MOST: u128 = 1 << 20;

fn plain(subnet: Cidr) -> Subnet {
    Subnet { gateway: None, lease_range: None, subnet }
}

/// The first IPv4 subnet of the pools that is none of `taken`.
///
/// # Errors
/// There is none.
pub fn free_v4(taken: &[Cidr], pools: &[Pool]) -> Result<Subnet> {
    for pool in pools.iter().filter(|pool| pool.base.address.is_ipv4()) {
        if !(pool.base.prefix..=32).contains(&pool.size) {
            bail!("subnet pool {}: cannot be divided into subnets of size {}", pool.base, pool.size);
        }
        let count = 1u128 << (pool.size - pool.base.prefix);
        let step = 1u128 << (32 - pool.size);
        let all =
            (0..count.min(MOST)).map(|at| Cidr { address: pool.base.nth(at * step), prefix: pool.size });
        if let Some(free) = all.into_iter().find(|one| !taken.iter().any(|taken| taken.overlaps(*one))) {
            return Ok(plain(free));
        }
    }
    bail!("could not find free subnet from subnet pools")
}

/// A random unique local IPv6 subnet that is none of `taken`.
///
/// # Errors
/// There is none.
pub fn free_v6(taken: &[Cidr]) -> Result<Subnet> {
    for _ in 0..TRIES {
        let subnet = choose_v6()?;
        if !taken.iter().any(|taken| taken.overlaps(subnet)) {
            return Ok(plain(subnet.subnet()));
        }
    }
    bail!("failed to get random ipv6 subnet")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_used_up_in_order() {
        let pool = |base: &str, size| Pool { base: base.parse().unwrap(), size };
        let pools = [pool("fd00::/8", 64), pool("10.89.0.0/23", 24), pool("10.90.5.0/16", 24)];
        let mut taken = Vec::new();
        let mut found = Vec::new();
        for _ in 0..3 {
            let subnet = free_v4(&taken, &pools).unwrap().subnet;
            taken.push(subnet);
            found.push(subnet.to_string());
        }
        assert_eq!(found, ["10.89.0.0/24", "10.89.1.0/24", "10.90.0.0/24"]);
        assert!(free_v4(&["0.0.0.0/0".parse().unwrap()], &pools).is_err());
        assert!(free_v4(&[], &[pool("10.0.0.0/24", 16)]).is_err());
    }
}
