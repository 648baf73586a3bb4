use super::*;

fn ask(name: &str, kind: u16, opt: bool) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(opt)];
    for label in name.split('.') {
        out.push(u8::try_from(label.len()).unwrap());
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 1]);
    if opt {
        out.extend_from_slice(&[0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    }
    out
}

#[test]
fn answers_an_address_with_the_clients_id() {
    let message = ask("Web.Example", A, false);
    let question = query(&message).unwrap();
    assert_eq!((question.name.as_str(), question.kind, question.size), ("web.example", A, 512));
    let answer = addresses(&message, &question, &["10.0.0.2".parse().unwrap(), "fd00::2".parse().unwrap()], true);
    assert_eq!(answer[..8], [0xab, 0xcd, 0x85, 0x80, 0, 1, 0, 1]);
    assert_eq!(answer[answer.len() - 4..], [10, 0, 0, 2]);
}

#[test]
fn long_answers_are_cut_over_udp_only() {
    let message = ask("many", A, false);
    let question = query(&message).unwrap();
    let many: Vec<IpAddr> = (0..100u8).map(|last| [10, 0, 0, last].into()).collect();
    let cut = addresses(&message, &question, &many, true);
    assert!(cut.len() <= 512 && cut[2] & 2 == 2);
    let whole = addresses(&message, &question, &many, false);
    assert_eq!((whole[7], whole[2] & 2), (100, 0));
    let extended = ask("many", A, true);
    let question = query(&extended).unwrap();
    assert_eq!(question.size, 4096);
    let answer = addresses(&extended, &question, &many, true);
    assert_eq!((answer[2] & 2, answer[11]), (0, 1));
}

#[test]
fn reverse_names() {
    assert_eq!(reverse("2.0.90.10.in-addr.arpa"), "10.90.0.2".parse().ok());
    let v6 = format!("2.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    assert_eq!(reverse(&v6), "fd00::2".parse().ok());
    for bad in ["1.2.3.in-addr.arpa", "256.1.1.1.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "x.ip6.arpa", ""] {
        assert_eq!(reverse(bad), None, "{bad}");
    }
}

#[test]
fn no_prefix_or_mutation_of_a_query_panics() {
    let whole = ask("some.name", AAAA, true);
    for length in 0..whole.len() {
        let _ = query(&whole[..length]);
    }
    for at in 0..whole.len() {
        for value in [0, 1, 63, 64, 127, 192, 255] {
            let mut message = whole.clone();
            message[at] = value;
            match query(&message) {
                Ok(question) => drop(addresses(&message, &question, &[[1, 2, 3, 4].into()], true)),
                Err(Some(code)) => drop(refusal(&message, None, code)),
                Err(None) => {}
            }
        }
    }
}
