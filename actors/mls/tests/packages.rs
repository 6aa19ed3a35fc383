//! KeyPackages, good and bad.

use super::super::fixture::{AUDITED, Client, PRIVATE, SUITE, capabilities, encoded};
use crate::{
    limits::KEY_PACKAGE_LIFETIME_S_MAX,
    machine::Millis,
    mls::check::key_package::{KeyPackageFacts, KeyPackageRefused, check_key_package},
};
use bytes::Bytes;
use openmls::prelude::*;

fn client() -> Client {
    Client::new("alice", SUITE)
}

/// A moment in the life of a fresh package.
fn present(message: &Bytes, client: &Client) -> Millis {
    let Err(KeyPackageRefused::NotValidNow { not_before_s, .. }) =
        check_key_package(message, &client.uri, Millis(0), AUDITED)
    else {
        panic!("valid in 1970")
    };
    Millis((not_before_s + 7_200) * 1_000)
}

fn check(
    client: &Client,
    change: impl FnOnce(KeyPackageBuilder) -> KeyPackageBuilder,
) -> Result<KeyPackageFacts, KeyPackageRefused> {
    let message = encoded(&MlsMessageOut::from(client.key_package_with(change)));
    check_key_package(&message, &client.uri, present(&message, client), AUDITED)
}

#[test]
fn a_fresh_package_is_taken_and_its_facts_are_the_ones_openmls_sees() {
    let client = client();
    let package = client.key_package();
    let message = encoded(&MlsMessageOut::from(package.clone()));
    let facts =
        check_key_package(&message, &client.uri, present(&message, &client), AUDITED).unwrap();
    assert_eq!(
        facts.reference,
        package
            .hash_ref(client.provider.crypto())
            .unwrap()
            .as_slice()
    );
    assert_eq!(facts.init_key, package.hpke_init_key().as_slice());
    assert_eq!(
        (facts.version, facts.ciphersuite, facts.last_resort),
        (1, 1, false)
    );
    assert_eq!(facts.extensions, [1, 2, 3, 4, 5, 10, PRIVATE]);
    assert_eq!(facts.proposals, [1, 2, 3, 4, 5, 6, 7, 10]);
    assert_eq!(facts.credentials, [1]);
    assert_eq!(facts.leaf_signature_key, client.signer.public());
}

#[test]
fn numbers_that_mean_nothing_are_not_among_the_facts() {
    let greased = |builder: KeyPackageBuilder| {
        let capabilities = Capabilities::builder()
            .ciphersuites(vec![SUITE])
            .extensions(vec![
                ExtensionType::Grease(0x1a1a),
                ExtensionType::Unknown(0xf001),
            ])
            .proposals(vec![ProposalType::Grease(0x2a2a)])
            .build();
        builder.leaf_node_capabilities(capabilities)
    };
    let facts = check(&client(), greased).unwrap();
    assert_eq!(facts.extensions, [1, 2, 3, 4, 5, 0xf001]);
    assert_eq!(facts.proposals, [1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn both_marks_of_last_resort_are_known() {
    assert!(
        check(&client(), KeyPackageBuilder::mark_as_last_resort)
            .unwrap()
            .last_resort
    );
    let dictionary = |component: u8| {
        let mut supports = capabilities(SUITE);
        supports = Capabilities::new(
            None,
            Some(&[SUITE]),
            Some(&[ExtensionType::Unknown(6)]),
            Some(supports.proposals()),
            None,
        );
        let content = vec![3, 0, component, 0];
        let extension = Extension::Unknown(6, UnknownExtension(content));
        check(&client(), |builder| {
            builder
                .leaf_node_capabilities(supports)
                .key_package_extensions(Extensions::single(extension).unwrap())
        })
    };
    assert!(dictionary(4).unwrap().last_resort);
    assert!(!dictionary(5).unwrap().last_resort);
}

#[test]
fn the_lifetime_must_contain_the_present_and_be_short() {
    let client = client();
    let package = client
        .key_package_with(|builder| builder.key_package_lifetime(Lifetime::init(10_000, 20_000)));
    let message = encoded(&MlsMessageOut::from(package));
    let at =
        |seconds: u64| check_key_package(&message, &client.uri, Millis(seconds * 1_000), AUDITED);
    assert!(matches!(
        at(9_999),
        Err(KeyPackageRefused::NotValidNow { .. })
    ));
    assert!(at(10_000).is_ok() && at(19_999).is_ok());
    assert!(matches!(
        at(20_000),
        Err(KeyPackageRefused::NotValidNow { .. })
    ));

    let long = client.key_package_with(|builder| {
        builder.key_package_lifetime(Lifetime::init(10_000, 10_001 + KEY_PACKAGE_LIFETIME_S_MAX))
    });
    let refused = check_key_package(
        &encoded(&MlsMessageOut::from(long)),
        &client.uri,
        Millis(10_000_000),
        AUDITED,
    );
    assert!(matches!(
        refused,
        Err(KeyPackageRefused::LivesTooLong { .. })
    ));
}

#[test]
fn a_package_of_somebody_else_or_of_an_unknown_ciphersuite_is_refused() {
    let (alice, bob) = (client(), Client::new("bob", SUITE));
    let message = bob.key_package_message();
    let now = present(&message, &bob);
    assert_eq!(
        check_key_package(&message, &alice.uri, now, AUDITED),
        Err(KeyPackageRefused::WrongClient)
    );
    for suite in [0_u8, 4, 5, 6, 7, 0x4d] {
        let mut bytes = message.to_vec();
        bytes[7] = suite;
        let refused = check_key_package(&bytes.into(), &bob.uri, now, AUDITED);
        assert_eq!(refused, Err(KeyPackageRefused::Unsupported("ciphersuite")));
    }
}

#[test]
fn a_package_with_a_flipped_byte_or_cut_short_is_refused() {
    let client = client();
    let message = client.key_package_message();
    let now = present(&message, &client);
    for at in 0..message.len() {
        let mut bytes = message.to_vec();
        bytes[at] ^= 1;
        assert!(
            check_key_package(&bytes.into(), &client.uri, now, AUDITED).is_err(),
            "byte {at} flipped"
        );
        assert!(
            check_key_package(&message.slice(..at), &client.uri, now, AUDITED).is_err(),
            "cut at {at}"
        );
    }
    let long = [&message[..], &[0]].concat();
    assert!(matches!(
        check_key_package(&long.into(), &client.uri, now, AUDITED),
        Err(KeyPackageRefused::Malformed(_))
    ));
}
