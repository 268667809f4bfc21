//! OPEN and ROUTE-REFRESH in unusual encodings.

use std::net::Ipv4Addr;

use super::super::wire::*;

fn open_with(parameters: &[u8], length: u8) -> Result<OpenMessage, Notification> {
    let mut message = vec![0xff; 16];
    let all = HEADER_LEN + 10 + parameters.len();
    message.extend_from_slice(&(all as u16).to_be_bytes());
    message.extend_from_slice(&[1, 4, 0xfd, 0xe8, 0, 90, 10, 0, 0, 1, length]);
    message.extend_from_slice(parameters);
    let (kind, _) = read_header(&message, MAX_MESSAGE_LEN).unwrap().unwrap();
    let context = DecodeContext {
        four_octet: true,
        internal: true,
        add_path: false,
    };
    match decode(kind, &message, &mut Decoder::new(context))? {
        BgpMessage::Open(open) => Ok(open),
        other => panic!("{other:?}"),
    }
}

fn open(parameters: &[u8]) -> Result<OpenMessage, Notification> {
    open_with(parameters, parameters.len() as u8)
}

#[test]
fn empty_unknown_and_repeated_capabilities_are_accepted() {
    for code in [1, 2, 5, 6, 64, 65, 69, 70, 71, 73, 75, 128, 200, 255] {
        let open = open(&[2, 2, code, 0]).unwrap();
        assert_eq!(open.capabilities.len(), 1, "{code}");
        assert_eq!(open.asn(), 65000);
    }
    let twice = open(&[2, 14, 1, 4, 0, 25, 0, 70, 1, 4, 0, 25, 0, 70, 2, 0]).unwrap();
    assert!(twice.offers(AddressFamily::EVPN));
    assert_eq!(twice.capabilities.len(), 3);
    let one_family_unknown = open(&[
        2, 16, 71, 14, 0x30, 0, 9, 0, 0, 0, 1, 0, 25, 70, 0x80, 0, 1, 0,
    ])
    .unwrap();
    let Capability::LongLived(families) = &one_family_unknown.capabilities[0] else {
        panic!("not read")
    };
    assert_eq!(
        families[1],
        LongLivedFamily {
            family: AddressFamily::EVPN,
            preserved: true,
            stale_time: 256
        }
    );
}

#[test]
fn names_are_decoded_and_truncated_ones_ignored() {
    let named = open(&[2, 11, 73, 6, 4, b'f', b'r', b'r', b'1', 0, 75, 1, 0]).unwrap();
    let fqdn = Capability::Fqdn {
        host: "frr1".into(),
        domain: String::new(),
    };
    assert_eq!(
        named.capabilities,
        [fqdn, Capability::SoftwareVersion(String::new())]
    );
    let cut = open(&[2, 5, 73, 3, 9, b'f', b'r']).unwrap();
    assert!(matches!(
        cut.capabilities[..],
        [Capability::Other { code: 73, .. }]
    ));
}

#[test]
fn open_errors_have_their_subcodes() {
    assert_eq!(
        open(&[1, 1, 0]).unwrap_err(),
        Notification::new(ErrorCode::UNSUPPORTED_OPTIONAL_PARAMETER, &[])
    );
    for parameters in [
        &[2][..],
        &[2, 5],
        &[2, 2, 65],
        &[2, 3, 65, 4, 0],
        &[255, 0],
        &[255, 0, 9, 2],
    ] {
        let error = open(parameters).unwrap_err();
        assert_eq!(error.error, ErrorCode::OPEN_UNSPECIFIC, "{parameters:?}");
    }
    assert_eq!(open_with(&[], 3).unwrap_err().error.code, 2);
    let mut other_version = vec![0xff; 16];
    other_version.extend_from_slice(&[0, 29, 1, 3, 0xfd, 0xe8, 0, 90, 10, 0, 0, 1, 0]);
    let context = DecodeContext {
        four_octet: true,
        internal: true,
        add_path: false,
    };
    let error = decode(
        MessageType::Open,
        &other_version,
        &mut Decoder::new(context),
    )
    .unwrap_err();
    assert_eq!(
        error,
        Notification::new(ErrorCode::UNSUPPORTED_VERSION_NUMBER, &[0, 4])
    );
}

#[test]
fn long_capabilities_use_extended_parameters_both_ways() {
    let value = vec![7; 200];
    let long = OpenMessage {
        my_as: 65000,
        hold_time: 90,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        capabilities: (0..3)
            .map(|_| Capability::Other {
                code: 200,
                value: value.clone(),
            })
            .collect(),
    };
    let message = long.emit().unwrap();
    assert_eq!(
        message[HEADER_LEN + 9..HEADER_LEN + 11],
        [255, 255],
        "RFC 9072"
    );
    let context = DecodeContext {
        four_octet: true,
        internal: true,
        add_path: false,
    };
    let BgpMessage::Open(again) =
        decode(MessageType::Open, &message, &mut Decoder::new(context)).unwrap()
    else {
        panic!("no OPEN")
    };
    assert_eq!(again, long);
    // The length before the extended marker need not be 255 (RFC 9072 section 2).
    assert_eq!(
        open_with(&[255, 0, 5, 2, 0, 2, 2, 0], 8)
            .unwrap()
            .capabilities,
        [Capability::RouteRefresh]
    );
    let too_long = OpenMessage {
        capabilities: vec![
            Capability::Other {
                code: 200,
                value: vec![0; 255]
            };
            20
        ],
        ..long
    };
    assert_eq!(too_long.emit(), None);
}

#[test]
fn refreshes_of_all_subtypes() {
    let context = DecodeContext {
        four_octet: true,
        internal: true,
        add_path: false,
    };
    let read = |body: &[u8]| {
        let mut message = vec![0xff; 16];
        message.extend_from_slice(&((HEADER_LEN + body.len()) as u16).to_be_bytes());
        message.push(5);
        message.extend_from_slice(body);
        match decode(
            MessageType::RouteRefresh,
            &message,
            &mut Decoder::new(context),
        )? {
            BgpMessage::RouteRefresh(refresh) => {
                if let Some(refresh) = refresh {
                    assert_eq!(refresh.emit()[..23], message[..23]);
                }
                Ok(refresh.map(|r| r.kind))
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(read(&[0, 25, 0, 70]), Ok(Some(RefreshKind::Request)));
    assert_eq!(read(&[0, 25, 1, 70]), Ok(Some(RefreshKind::Begin)));
    assert_eq!(read(&[0, 25, 2, 70]), Ok(Some(RefreshKind::End)));
    assert_eq!(read(&[0, 25, 9, 70]), Ok(None));
    assert_eq!(
        read(&[0, 25, 1, 70, 0]),
        Err(Notification::new(
            ErrorCode::INVALID_REFRESH_LENGTH,
            &[0, 25, 1, 70, 0]
        ))
    );
}
