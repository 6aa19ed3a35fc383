//! The requester's signature under a claim of KeyPackages: what is signed, and whether it is right.
//!
//! Promises: a signature is good for one claim id, one user and these terms. Not here: whose key it is, which the
//! requester's provider knows.
//!
//! Source: transport requirements, section 3.1; MIMI protocol draft, KeyMaterialRequest.

use crate::{
    ids::{PseudonymUri, Requester, UserUri},
    mls::codec::{
        reader::{put_length, put_vector},
        suite::Suite,
    },
    wire::{
        claim::{ClaimId, ClaimRequest, ClaimTerms},
        event::Hash,
    },
};

/// Label of the signature, as the MIMI protocol has it.
const LABEL: &str = "KeyMaterialRequestTBS";
/// The suite whose signature scheme is Ed25519.
const ED25519_SUITE: u16 = 1;

/// The bytes that a requester signs with its Ed25519 key for one user of a claim: `SignContent` of RFC 9420, section
/// 5.1.2.
#[must_use]
pub fn signed_content(id: ClaimId, terms: &ClaimTerms, user: &UserUri, key: &[u8; 32]) -> Vec<u8> {
    let input = input(id, terms, user, key);
    let mut signed = Vec::with_capacity(input.len() + LABEL.len() + 16);
    put_length(&mut signed, "MLS 1.0 ".len() + LABEL.len());
    signed.extend_from_slice(b"MLS 1.0 ");
    signed.extend_from_slice(LABEL.as_bytes());
    put_vector(&mut signed, &input);
    signed
}

/// The KeyMaterialRequestTBS of the MIMI protocol, then the claim id and the versions: without these whoever passes a
/// claim on could claim again in the requester's name.
fn input(id: ClaimId, terms: &ClaimTerms, user: &UserUri, key: &[u8; 32]) -> Vec<u8> {
    const MLS_10: u8 = 1;
    const BASIC: u16 = 1;
    let mut input = vec![MLS_10];
    put_vector(&mut input, terms.requester.to_string().as_bytes());
    put_vector(&mut input, user.to_string().as_bytes());
    let room = terms.room.as_ref().map(ToString::to_string);
    put_vector(&mut input, room.unwrap_or_default().as_bytes());
    put_numbers(&mut input, &terms.ciphersuites);
    put_numbers(&mut input, &terms.required_extensions);
    put_numbers(&mut input, &terms.required_proposals);
    put_numbers(&mut input, &terms.required_credentials);
    put_vector(&mut input, key);
    input.extend_from_slice(&BASIC.to_be_bytes());
    let asking = terms.asking_client.as_ref().map(ToString::to_string);
    let identity = asking.unwrap_or_else(|| terms.requester.to_string());
    put_vector(&mut input, identity.as_bytes());
    input.extend_from_slice(&id.0);
    put_numbers(&mut input, &terms.versions);
    input
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
    let mut signatures = proof.signatures.iter();
    let users = request.users.iter();
    users
        .map(|user| {
            let input = input(request.id, terms, user, &proof.key);
            signatures
                .next()
                .is_some_and(|signature| suite.verifies(&proof.key, LABEL, &[&input], signature))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{BVec, Payload, claim::ClaimProof};
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
        let users: Vec<UserUri> = names.iter().map(|name| user(name)).collect();
        let sign = |user: &UserUri| {
            let content = signed_content(id, &terms, user, &key);
            let made = RustCrypto::default().sign(SignatureScheme::ED25519, &content, private);
            Payload::from(made.unwrap())
        };
        let signatures = users.iter().map(sign).collect();
        ClaimRequest {
            id,
            terms,
            users: BVec::truncated(users),
            proof: ClaimProof {
                key,
                signatures: BVec::truncated(signatures),
            },
        }
    }

    #[test]
    fn each_user_has_a_signature_of_its_own_and_any_change_breaks_it() {
        let good = request(terms(), &["bobby", "betty"]);
        assert_eq!(signed(&good), [true, true]);
        let mut swapped = good.clone();
        swapped.users = BVec::truncated(vec![user("betty"), user("bobby")]);
        assert_eq!(signed(&swapped), [false, false]);
        let mut short = good.clone();
        short.proof.signatures = BVec::truncated(vec![good.proof.signatures[0].clone()]);
        assert_eq!(signed(&short), [true, false]);
        let changes: [fn(&mut ClaimRequest); 9] = [
            |claim| claim.id = ClaimId([8; 16]),
            |claim| claim.terms.room = None,
            |claim| claim.terms.versions = BVec::truncated(vec![1]),
            |claim| claim.terms.ciphersuites = BVec::truncated(vec![1]),
            |claim| claim.terms.required_extensions = BVec::truncated(vec![9]),
            |claim| claim.terms.required_proposals = BVec::truncated(vec![9]),
            |claim| claim.terms.required_credentials = BVec::truncated(vec![2]),
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
