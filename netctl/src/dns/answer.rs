//! What a question deserves: an answer from the zone, a question to somebody else, or nothing.

use std::net::IpAddr;

use super::names::View;
use super::wire::{A, AAAA, Code, PTR, Query, refuse};

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this back.
    Reply(Vec<u8>),
    /// Ask one of the client's upstream servers.
    Forward,
    /// It is no query.
    Ignore,
}

/// Decides about one message of somebody who sees `view`. `turn` rotates a name's addresses from query to query, so that
/// the containers behind one alias share the load; `by_stream` lifts the limit of a datagram.
pub fn answer(view: View<'_>, message: &[u8], turn: usize, by_stream: bool) -> Action {
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(Some(code)) => return Action::Reply(refuse(message, code)),
        Err(None) => return Action::Ignore,
    };
    let limit = if by_stream { usize::from(u16::MAX) } else { query.datagram_limit() };
    if query.is_internet() {
        if let Some(addresses) = view.addresses(&query.name) {
            return Action::Reply(match query.kind {
                A | AAAA => query.answer_addresses(&rotated(addresses, turn), limit),
                _ => query.answer_code(Code::Ok),
            });
        }
        if query.kind == PTR
            && let Some(name) = query.reverse_address().and_then(|address| view.name_of(address))
        {
            return Action::Reply(query.answer_name(name, limit));
        }
    }
    if view.is_ours(&query.name) {
        return Action::Reply(query.answer_code(Code::NoSuchName));
    }
    if view.upstream().is_empty() {
        return Action::Reply(query.answer_code(Code::ServerFailure));
    }
    Action::Forward
}

fn rotated(mut addresses: Vec<IpAddr>, turn: usize) -> Vec<IpAddr> {
    if !addresses.is_empty() {
        let by = turn % addresses.len();
        addresses.rotate_left(by);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::super::names::Names;
    use super::super::wire::tests::question;
    use super::super::zone::{Entry, Zone};
    use super::*;

    fn entry(id: &str, names: &[&str], address: [u8; 4]) -> Entry {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Entry { id: id.into(), names, addresses: vec![address.into()], upstream: vec![] }
    }

    /// Two networks; `b` is on both, `alone` has a server of its own.
    fn names(internal: bool) -> Names {
        let mut alone = entry("alone", &["alone"], [10, 90, 0, 9]);
        alone.upstream = vec![[9, 9, 9, 9].into()];
        let web =
            [entry("a", &["a", "web"], [10, 90, 0, 2]), entry("b", &["b", "web"], [10, 90, 0, 3]), alone];
        let one = Zone { network: "one".into(), internal, entries: web.into(), ..Zone::default() };
        let db = [entry("b", &["b"], [10, 91, 0, 3]), entry("db", &["db"], [10, 91, 0, 4])];
        let two = Zone { network: "two".into(), internal, entries: db.into(), ..Zone::default() };
        Names::new(vec![one, two], "dns.podman", vec![])
    }

    fn asked(names: &Names, name: &str, last: u8, turn: usize) -> Action {
        answer(names.view(0, [10, 90, 0, last].into()), &question(name, A), turn, false)
    }

    fn code(action: Action) -> u8 {
        let Action::Reply(reply) = action else { panic!("{action:?}") };
        reply[3] & 15
    }

    #[test]
    fn an_alias_of_many_takes_turns() {
        let first = |turn| match asked(&names(false), "web", 2, turn) {
            Action::Reply(reply) => reply[question("web", A).len() + 15],
            other => panic!("{other:?}"),
        };
        assert_eq!((first(0), first(1), first(2)), (2, 3, 2));
    }

    #[test]
    fn a_known_name_without_that_record_exists() {
        let names = names(false);
        let view = names.view(0, [10, 90, 0, 2].into());
        let Action::Reply(reply) = answer(view, &question("a", AAAA), 0, false) else { panic!() };
        assert_eq!((reply[3] & 15, reply[7]), (0, 0));
    }

    #[test]
    fn other_names_go_to_the_clients_own_servers() {
        assert_eq!(asked(&names(false), "example.org", 9, 0), Action::Forward);
        let nobody = code(asked(&names(false), "example.org", 2, 0));
        assert_eq!(nobody, Code::ServerFailure as u8, "nobody to ask");
        let internal = code(asked(&names(true), "example.org", 9, 0));
        assert_eq!(internal, Code::NoSuchName as u8, "an internal network asks nobody");
    }

    #[test]
    fn names_of_all_of_a_clients_networks_are_seen() {
        assert_eq!(code(asked(&names(true), "db", 3, 0)), 0, "b is on both");
        assert_eq!(code(asked(&names(true), "db", 2, 0)), Code::NoSuchName as u8, "a is not");
        assert_eq!(code(asked(&names(true), "db", 77, 0)), Code::NoSuchName as u8, "nor is a stranger");
    }

    #[test]
    fn our_domain_is_asked_of_nobody_else() {
        assert_eq!(code(asked(&names(false), "web.dns.podman", 9, 0)), 0);
        assert_eq!(code(asked(&names(false), "nosuch.dns.podman", 9, 0)), Code::NoSuchName as u8);
        assert_eq!(asked(&names(false), "nosuchdns.podman", 9, 0), Action::Forward);
    }
}
