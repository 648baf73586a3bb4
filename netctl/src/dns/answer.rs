//! What a question deserves: an answer from the zone, a question to somebody else, or nothing.

use std::net::IpAddr;

use super::wire::{A, AAAA, Code, PTR, Query, refuse};
use super::zone::Index;

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

/// Decides about one message of `client`. `turn` rotates a name's addresses from query to query, so that the
/// containers behind one alias share the load; `by_stream` lifts the limit of a datagram.
pub fn answer(index: &Index, message: &[u8], client: IpAddr, turn: usize, by_stream: bool) -> Action {
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(Some(code)) => return Action::Reply(refuse(message, code)),
        Err(None) => return Action::Ignore,
    };
    let limit = if by_stream { usize::from(u16::MAX) } else { query.datagram_limit() };
    if query.is_internet() {
        if let Some(addresses) = index.addresses(&query.name) {
            return Action::Reply(match query.kind {
                A | AAAA => query.answer_addresses(&rotated(addresses, turn), limit),
                _ => query.answer_code(Code::Ok),
            });
        }
        if query.kind == PTR
            && let Some(name) = query.reverse_address().and_then(|address| index.name_of(address))
        {
            return Action::Reply(query.answer_name(name, limit));
        }
    }
    if index.is_internal() {
        return Action::Reply(query.answer_code(Code::NoSuchName));
    }
    if index.upstream_for(client).is_empty() {
        return Action::Reply(query.answer_code(Code::ServerFailure));
    }
    Action::Forward
}

fn rotated(addresses: &[IpAddr], turn: usize) -> Vec<IpAddr> {
    let mut addresses = addresses.to_vec();
    if !addresses.is_empty() {
        let by = turn % addresses.len();
        addresses.rotate_left(by);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::question;
    use super::super::zone::{Entry, Zone};
    use super::*;

    fn index(internal: bool) -> Index {
        let web = |id: &str, last: u8| Entry {
            id: id.into(),
            names: vec![id.into(), "web".into()],
            addresses: vec![[10, 90, 0, last].into()],
            upstream: vec![],
        };
        let mut alone = web("alone", 9);
        alone.upstream = vec![[9, 9, 9, 9].into()];
        Zone { internal, entries: vec![web("a", 2), web("b", 3), alone], ..Zone::default() }.into()
    }

    fn client(last: u8) -> IpAddr {
        [10, 90, 0, last].into()
    }

    #[test]
    fn an_alias_of_many_takes_turns() {
        let first = |turn| match answer(&index(false), &question("web", A), client(2), turn, false) {
            Action::Reply(reply) => reply[question("web", A).len() + 15],
            other => panic!("{other:?}"),
        };
        assert_eq!((first(0), first(1), first(3)), (2, 3, 2));
    }

    #[test]
    fn a_known_name_without_that_record_exists() {
        let Action::Reply(reply) = answer(&index(false), &question("a", AAAA), client(2), 0, false) else {
            panic!()
        };
        assert_eq!((reply[3] & 15, reply[7]), (0, 0));
    }

    #[test]
    fn other_names_go_to_the_clients_own_servers() {
        let other = question("example.org", A);
        assert_eq!(answer(&index(false), &other, client(9), 0, false), Action::Forward);
        let Action::Reply(reply) = answer(&index(false), &other, client(2), 0, false) else { panic!() };
        assert_eq!(reply[3] & 15, Code::ServerFailure as u8, "nobody to ask");
        let Action::Reply(reply) = answer(&index(true), &other, client(9), 0, false) else { panic!() };
        assert_eq!(reply[3] & 15, Code::NoSuchName as u8, "an internal network asks nobody");
    }
}
