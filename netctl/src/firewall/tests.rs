use super::batch::{Family, Transaction};
use super::{Publish, Zone, table};

fn port(host: Option<&str>, host_port: u16, to: &str) -> Publish {
    let host = host.map(|host| host.parse().unwrap());
    Publish { host, protocol: 6, host_port, to: to.parse().unwrap(), to_port: 80 }
}

fn hex(transaction: Transaction) -> String {
    transaction.finish().bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn an_element_is_encoded_as_nft_does() {
    let mut transaction = Transaction::new();
    table::publish(&mut transaction, Family::V4, &[port(None, 8080, "10.90.0.2")]);
    let text = hex(transaction);
    // key: tcp . 8080; value: 10.90.0.2 . 80, each part padded to four bytes.
    assert!(text.contains("0c0001000600000001f90000".replace("01f9", "1f90").as_str()), "{text}");
    assert!(text.contains("0c0001000a5a000200500000"), "{text}");
}

#[test]
fn addresses_go_to_their_own_map_and_family() {
    let ports = [port(Some("127.0.0.1"), 1, "10.0.0.2"), port(None, 2, "fd00::2")];
    let (mut v4, mut v6) = (Transaction::new(), Transaction::new());
    table::publish(&mut v4, Family::V4, &ports);
    table::publish(&mut v6, Family::V6, &ports);
    let at = "published_at\0".bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(hex(v4).contains(&at));
    assert!(!hex(v6).contains(&at));
}

#[test]
fn thousands_of_ports_stay_well_formed() {
    let ports: Vec<_> = (1..=5000).map(|number| port(None, number, "10.90.0.2")).collect();
    let mut transaction = Transaction::new();
    table::publish(&mut transaction, Family::V4, &ports);
    let batch = transaction.finish();
    let (mut bytes, mut messages) = (batch.bytes(), 0);
    while !bytes.is_empty() {
        let length = u32::from_ne_bytes(bytes[..4].try_into().unwrap()) as usize;
        bytes = &bytes[length..];
        messages += 1;
    }
    assert_eq!(messages, 12);
}

#[test]
fn a_family_without_a_subnet_has_no_table() {
    let zone = Zone {
        bridge: "b".into(),
        subnets: vec!["10.0.0.0/24".parse().unwrap()],
        internal: false,
        masquerade: true,
        routed: false,
    };
    assert!(Family::V4.is_used_by(std::slice::from_ref(&zone)) && !Family::V6.is_used_by(&[zone]));
}
