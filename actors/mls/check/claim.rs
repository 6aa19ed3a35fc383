//! The requester's signature under a claim of KeyPackages: what is signed, and whether it is right.
//!
//! Promises: a signature is good for one claim id, one user and these terms; what it is made over for one user is what
//! the MIMI protocol says, byte for byte. Not here: whose key it is, which the
//! requester's provider knows.
//!
//! Source: transport requirements, section 3.1; MIMI protocol draft, KeyMaterialRequest.

use crate::{
    ids::{PseudonymUri, Requester, UserUri},
    limits::CLAIM_USERS_MAX,
    mls::codec::{
        reader::{put_length, put_vector},
        suite::Suite,
    },
    wire::{
        BVec, Payload,
        claim::{ClaimId, ClaimProof, ClaimRequest, ClaimTerms},
        event::Hash,
    },
};
use std::collections::BTreeSet;

/// Label of the signature for one user, as the MIMI protocol has it.
const LABEL: &str = "KeyMaterialRequestTBS";
/// Label of the signature for the whole claim, which is ours.
const ENVELOPE_LABEL: &str = "mimi-node ClaimTBS";
/// The suite whose signature scheme is Ed25519.
const ED25519_SUITE: u16 = 1;

/// Signs a claim with an Ed25519 key; `sign` is given `SignContent` of RFC 9420, section 5.1.2.
#[must_use]
pub fn sign(
    id: ClaimId,
    terms: &ClaimTerms,
    users: &BVec<UserUri, CLAIM_USERS_MAX>,
    key: [u8; 32],
    sign: impl Fn(&[u8]) -> Vec<u8>,
) -> ClaimProof {
    let under = |label: &str, tbs: &[u8]| Payload::from(sign(&sign_content(label, tbs)));
    let all = users.refs().map(|user| tbs(terms, user, &key));
    let requests = all.refs().map(|tbs| Hash::of(tbs));
    let envelope = under(ENVELOPE_LABEL, &envelope_tbs(id, terms, &requests));
    let signatures = all.map(|tbs| under(LABEL, &tbs));
    let users = users.refs();
    let before = users.map(|user| under(LABEL, &tbs_of_1(id, terms, user, &key)));
    ClaimProof {
        key,
        signatures,
        requests,
        envelope,
        before,
    }
}

/// The KeyMaterialRequestTBS of the MIMI protocol for one user of a claim.
#[must_use]
pub fn tbs(terms: &ClaimTerms, user: &UserUri, key: &[u8; 32]) -> Vec<u8> {
    /// What no preference means; the list in the TBS is never empty.
    const FIRST_SUITE: [u16; 1] = [1];
    let suites = match &terms.ciphersuites[..] {
        [] => &FIRST_SUITE[..],
        named => named,
    };
    tbs_naming(suites, terms, user, key)
}

fn tbs_naming(suites: &[u16], terms: &ClaimTerms, user: &UserUri, key: &[u8; 32]) -> Vec<u8> {
    const MLS_10: u8 = 1;
    const BASIC: u16 = 1;
    let mut input = vec![MLS_10];
    put_vector(&mut input, terms.requester.to_string().as_bytes());
    put_vector(&mut input, user.to_string().as_bytes());
    let room = terms.room.as_ref().map(ToString::to_string);
    put_vector(&mut input, room.unwrap_or_default().as_bytes());
    put_numbers(&mut input, suites);
    put_numbers(&mut input, &terms.required_extensions);
    put_numbers(&mut input, &terms.required_proposals);
    put_numbers(&mut input, &terms.required_credentials);
    put_vector(&mut input, key);
    input.extend_from_slice(&BASIC.to_be_bytes());
    let asking = terms.asking_client.as_ref().map(ToString::to_string);
    let identity = asking.unwrap_or_else(|| terms.requester.to_string());
    put_vector(&mut input, identity.as_bytes());
    input
}

/// What the requester signs once for all users: without it, whoever passes a claim on could claim again in the
/// requester's name.
fn envelope_tbs(id: ClaimId, terms: &ClaimTerms, requests: &[Hash]) -> Vec<u8> {
    let mut input = id.0.to_vec();
    put_numbers(&mut input, &terms.versions);
    let hashes: Vec<u8> = requests.iter().flat_map(|hash| hash.0).collect();
    put_vector(&mut input, &hashes);
    input
}

/// What was signed for one user in version 1: id and versions stood behind the TBS, which had no default for a suite.
fn tbs_of_1(id: ClaimId, terms: &ClaimTerms, user: &UserUri, key: &[u8; 32]) -> Vec<u8> {
    let mut tbs = tbs_naming(&terms.ciphersuites, terms, user, key);
    tbs.extend_from_slice(&id.0);
    put_numbers(&mut tbs, &terms.versions);
    tbs
}

fn sign_content(label: &str, tbs: &[u8]) -> Vec<u8> {
    let mut signed = Vec::with_capacity(tbs.len() + label.len() + 16);
    put_length(&mut signed, "MLS 1.0 ".len() + label.len());
    signed.extend_from_slice(b"MLS 1.0 ");
    signed.extend_from_slice(label.as_bytes());
    put_vector(&mut signed, tbs);
    signed
}

fn put_numbers(out: &mut Vec<u8>, numbers: &[u16]) {
    let bytes: Vec<u8> = numbers
        .iter()
        .flat_map(|number| number.to_be_bytes())
        .collect();
    put_vector(out, &bytes);
}

/// The pseudonym of a key, by its name.
#[must_use]
pub fn pseudonym_name(key: &[u8; 32]) -> String {
    Hash::of(key).to_string()
}

/// Whether a pseudonym is the one of a key.
#[must_use]
pub fn owns(pseudonym: &PseudonymUri, key: &[u8; 32]) -> bool {
    pseudonym.name() == pseudonym_name(key)
}

/// For each user of a claim, whether the requester signed for it. Cryptography: for a worker.
///
/// Nothing is looked at behind a signature that is wrong: an honest requester makes none, and others cost one.
/// A pseudonym must be the key's own. That a client's key is the client's is for its provider to say.
#[must_use]
pub fn signed(request: &ClaimRequest) -> Vec<bool> {
    let (terms, proof) = (&request.terms, &request.proof);
    let named = match &terms.requester {
        Requester::User(user) => terms
            .asking_client
            .as_ref()
            .is_some_and(|client| client.user() == user),
        Requester::Pseudonym(pseudonym) => {
            terms.asking_client.is_none() && owns(pseudonym, &proof.key)
        }
    };
    let Some(suite) = Suite::new(ED25519_SUITE).filter(|_| named) else {
        return vec![false; request.users.len()];
    };
    let verifies = |label: &str, tbs: &[u8], signature: Option<&Payload>| {
        signature.is_some_and(|signature| suite.verifies(&proof.key, label, &[tbs], signature))
    };
    let users = request.users.iter();
    let mut all_so_far = true;
    if proof.is_of_version_1() {
        let mut signatures = proof.before.iter();
        let tbs = |user| tbs_of_1(request.id, terms, user, &proof.key);
        return users
            .map(|user| {
                all_so_far = all_so_far && verifies(LABEL, &tbs(user), signatures.next());
                all_so_far
            })
            .collect();
    }
    let envelope = envelope_tbs(request.id, terms, &proof.requests);
    let whole = verifies(ENVELOPE_LABEL, &envelope, Some(&proof.envelope));
    let covered: BTreeSet<&Hash> = proof.requests.iter().filter(|_| whole).collect();
    let mut signatures = proof.signatures.iter();
    users
        .map(|user| {
            if all_so_far {
                let tbs = tbs(terms, user, &proof.key);
                let covers = covered.contains(&Hash::of(&tbs));
                all_so_far = covers && verifies(LABEL, &tbs, signatures.next());
            }
            all_so_far
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use openmls_rust_crypto::RustCrypto;
    use openmls_traits::{crypto::OpenMlsCrypto, types::SignatureScheme};

    fn keys() -> (Vec<u8>, [u8; 32]) {
        let (private, public) = RustCrypto::default()
            .signature_key_gen(SignatureScheme::ED25519)
            .unwrap();
        (private, public.try_into().unwrap())
    }

    fn user(name: &str) -> UserUri {
        format!("mimi://b.example/u/{name}").parse().unwrap()
    }

    fn terms() -> ClaimTerms {
        let alice: UserUri = "mimi://a.example/u/alice".parse().unwrap();
        ClaimTerms {
            asking_client: Some("mimi://a.example/d/alice/phone".parse().unwrap()),
            room: Some("mimi://a.example/r/den".parse().unwrap()),
            ..ClaimTerms::new(alice)
        }
    }

    fn request(terms: ClaimTerms, names: &[&str]) -> ClaimRequest {
        let (private, key) = keys();
        sign(terms, names, &private, key)
    }

    fn sign(terms: ClaimTerms, names: &[&str], private: &[u8], key: [u8; 32]) -> ClaimRequest {
        let id = ClaimId([7; 16]);
        let users = BVec::first_max(names.iter().map(|name| user(name)));
        let made = |content: &[u8]| {
            let made = RustCrypto::default().sign(SignatureScheme::ED25519, content, private);
            made.unwrap()
        };
        let proof = super::sign(id, &terms, &users, key, made);
        ClaimRequest {
            id,
            terms,
            users,
            proof,
        }
    }

    #[test]
    fn each_user_has_a_signature_of_its_own_and_any_change_breaks_it() {
        let good = request(terms(), &["bobby", "betty"]);
        assert_eq!(signed(&good), [true, true]);
        let mut swapped = good.clone();
        swapped.users = BVec::from([user("betty"), user("bobby")]);
        assert_eq!(signed(&swapped), [false, false]);
        let mut short = good.clone();
        short.proof.signatures = BVec::from([good.proof.signatures[0].clone()]);
        assert_eq!(signed(&short), [true, false]);
        let mut other = good.clone();
        other.proof.requests = BVec::from([good.proof.requests[0]]);
        assert_eq!(signed(&other), [false, false]);
        let changes: [fn(&mut ClaimRequest); 9] = [
            |claim| claim.id = ClaimId([8; 16]),
            |claim| claim.terms.room = None,
            |claim| claim.terms.versions = BVec::from([1]),
            |claim| claim.terms.ciphersuites = BVec::from([2]),
            |claim| claim.terms.required_extensions = BVec::from([9]),
            |claim| claim.terms.required_proposals = BVec::from([9]),
            |claim| claim.terms.required_credentials = BVec::from([2]),
            |claim| claim.terms.asking_client = None,
            |claim| claim.proof.key = [3; 32],
        ];
        for change in changes {
            let mut other = good.clone();
            change(&mut other);
            assert_eq!(signed(&other), [false, false]);
        }
    }

    #[test]
    fn nothing_is_looked_at_behind_a_signature_that_is_wrong() {
        let mut junk = request(terms(), &["bobby", "betty", "bill"]);
        junk.proof.signatures = BVec::from([
            junk.proof.signatures[0].clone(),
            junk.proof.signatures[0].clone(),
            junk.proof.signatures[2].clone(),
        ]);
        assert_eq!(signed(&junk), [true, false, false]);
        let before = ClaimRequest {
            proof: ClaimProof {
                key: junk.proof.key,
                before: BVec::from([
                    junk.proof.before[2].clone(),
                    junk.proof.before[1].clone(),
                    junk.proof.before[0].clone(),
                ]),
                ..ClaimProof::default()
            },
            ..junk
        };
        assert_eq!(signed(&before), [false, false, false]);
    }

    #[test]
    fn what_is_signed_for_a_user_is_what_the_protocol_says_and_nothing_else() {
        let mut terms = terms();
        terms.required_extensions = BVec::from([0x0a0b, 3]);
        let tbs = tbs(&terms, &user("bobby"), &[7; 32]);
        let vector = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let expected = [
            vec![1],
            vector("mimi://a.example/u/alice"),
            vector("mimi://b.example/u/bobby"),
            vector("mimi://a.example/r/den"),
            vec![2, 0, 1],
            vec![4, 0x0a, 0x0b, 0, 3, 0, 0],
            vec![32],
            vec![7; 32],
            vec![0, 1],
            vector("mimi://a.example/d/alice/phone"),
        ];
        assert_eq!(tbs, expected.concat());
    }

    #[test]
    fn a_claim_of_version_1_is_checked_as_it_was_signed() {
        let mut before = request(terms(), &["bobby"]);
        before.proof.signatures = BVec::default();
        before.proof.requests = BVec::default();
        before.proof.envelope = Payload::default();
        assert_eq!(signed(&before), [true]);
        before.id = ClaimId([8; 16]);
        assert_eq!(signed(&before), [false]);
    }

    #[test]
    fn a_client_signs_for_its_own_user_only() {
        let other = ClaimTerms {
            asking_client: Some("mimi://a.example/d/mallory/phone".parse().unwrap()),
            ..terms()
        };
        assert_eq!(signed(&request(other, &["bobby"])), [false]);
    }

    #[test]
    fn a_pseudonym_is_whoever_holds_its_key() {
        let (private, key) = keys();
        let provider = "a.example".parse().unwrap();
        let own = PseudonymUri::new(&provider, &pseudonym_name(&key)).unwrap();
        let terms = ClaimTerms::new(own);
        assert_eq!(
            signed(&sign(terms.clone(), &["bobby"], &private, key)),
            [true]
        );
        let (private, key) = keys();
        assert_eq!(signed(&sign(terms, &["bobby"], &private, key)), [false]);
    }
}
