//! Who may ask what of a user, and what of it the user's desk takes: what waits for an answer, as against what the provider
//! itself puts into the user's log.
//!
//! Source: transport requirements, sections 3.1 and 7.3.

use super::{
    command::{Add, Command, Enrol, Revoke},
    desk::Input,
    introductions::{self, Introduction},
    outcome::Refused,
};
use crate::{
    caller::{Caller, Principal},
    ids::{ProviderId, UserUri},
    machine::Ticket,
    wire::{joining::IntroductionsAsk, user::Request},
};
use std::sync::Arc;

/// What the desk of `user` takes of a request, for whose answer `ticket` waits.
///
/// # Errors
/// [`Refused::NotAuthorized`] when the request is not the principal's to make.
pub fn taken(
    user: &UserUri,
    principal: Principal,
    request: Request,
    ticket: Ticket,
) -> Result<Input, Refused> {
    if let Request::Introductions(IntroductionsAsk::Create { lifetime_ms }) = request {
        own_device(user, &principal)?;
        let user = user.clone();
        return Ok(Input::Introduce {
            ticket,
            user,
            lifetime_ms,
        });
    }
    let command = Arc::new(command(user, principal, request)?);
    Ok(Input::Ask { ticket, command })
}

/// What goes into the log of `user` for a request that needs nothing but that.
///
/// # Errors
/// As [`taken`]; also for a request whose command the desk has to make.
pub fn command(user: &UserUri, principal: Principal, request: Request) -> Result<Command, Refused> {
    match request {
        Request::Enrol { code } => {
            let (caller, device_key) = own_device(user, &principal)?;
            Ok(Command::Enrol(Enrol {
                code,
                client: caller.client.clone(),
                device_key,
            }))
        }
        Request::Introductions(ask) => {
            own_device(user, &principal)?;
            match ask {
                IntroductionsAsk::List => Ok(Command::Introduction(Introduction::List)),
                IntroductionsAsk::Revoke(id) => Ok(Command::Introduction(Introduction::Revoke(id))),
                IntroductionsAsk::Create { .. } => Err(Refused::NotAuthorized),
            }
        }
        Request::Resolve(code) => Ok(Command::Introduction(Introduction::Resolve {
            peer: provider(&principal).unwrap_or(user.provider()).clone(),
            hash: introductions::hash(&code),
        })),
        Request::Add { code } => {
            operator(&principal)?;
            let user = user.clone();
            Ok(Command::Add(Add { user, code }))
        }
        Request::Delete => operator(&principal).map(|()| Command::Delete),
        Request::Consent(consent) => operator(&principal).map(|()| Command::Consent(consent)),
        Request::Revoke(client) => {
            operator(&principal).map(|()| Command::Revoke(Revoke { client }))
        }
        Request::Consents(ask) => {
            own_device(user, &principal)?;
            Ok(Command::Consents(ask))
        }
    }
}

/// The device that asks, if it is one of the user's own.
fn own_device<'a>(
    user: &UserUri,
    principal: &'a Principal,
) -> Result<(&'a Caller, [u8; 32]), Refused> {
    match principal {
        Principal::Device { caller, key } if caller.client.user() == user => Ok((caller, *key)),
        Principal::Device { .. } | Principal::Provider(_) | Principal::Operator => {
            Err(Refused::NotAuthorized)
        }
    }
}

fn operator(principal: &Principal) -> Result<(), Refused> {
    match principal {
        Principal::Operator => Ok(()),
        Principal::Device { .. } | Principal::Provider(_) => Err(Refused::NotAuthorized),
    }
}

/// The provider that answers for whoever asks.
fn provider(principal: &Principal) -> Option<&ProviderId> {
    match principal {
        Principal::Device { caller, .. } => Some(&caller.origin.provider),
        Principal::Provider(origin) => Some(&origin.provider),
        Principal::Operator => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        caller::Origin,
        ids::ClientUri,
        user::{command::Consent, testing::alice},
        wire::{consent::ConsentsAsk, event::Hash, joining::CodeId},
    };

    const TICKET: Ticket = Ticket(7);
    const KEY: [u8; 32] = [3; 32];

    fn bob() -> UserUri {
        "mimi://a.example/u/bob".parse().unwrap()
    }

    fn device(of: &str) -> Principal {
        let client: ClientUri = of.parse().unwrap();
        let caller = Caller::of(client);
        Principal::Device { caller, key: KEY }
    }

    fn principals() -> [Principal; 4] {
        [
            device("mimi://a.example/d/bob/phone"),
            device("mimi://a.example/d/eve/phone"),
            Principal::Provider(Origin::of("b.example".parse().unwrap())),
            Principal::Operator,
        ]
    }

    /// Which of [`principals`] may make a request.
    fn who_may(request: &Request) -> [bool; 4] {
        principals().map(|who| taken(&bob(), who, request.clone(), TICKET).is_ok())
    }

    #[test]
    fn each_request_is_somebodys_to_make_and_nobody_elses() {
        const OWN: [bool; 4] = [true, false, false, false];
        const OPERATOR: [bool; 4] = [false, false, false, true];
        let code = Hash::of(b"code");
        let consent = Consent {
            requester: alice().into(),
            room: None,
            grant: None,
        };
        let phone = "mimi://a.example/d/bob/phone".parse().unwrap();
        let create = IntroductionsAsk::Create { lifetime_ms: None };
        for (request, may) in [
            (Request::Enrol { code }, OWN),
            (Request::Introductions(create), OWN),
            (Request::Introductions(IntroductionsAsk::List), OWN),
            (
                Request::Introductions(IntroductionsAsk::Revoke(CodeId(1))),
                OWN,
            ),
            (Request::Resolve(vec![1].into()), [true; 4]),
            (Request::Add { code }, OPERATOR),
            (Request::Delete, OPERATOR),
            (Request::Consent(consent), OPERATOR),
            (Request::Revoke(phone), OPERATOR),
            (Request::Consents(ConsentsAsk::List { after: None }), OWN),
        ] {
            assert_eq!(who_may(&request), may, "{request:?}");
        }
    }

    #[test]
    fn a_device_is_enrolled_with_the_key_that_it_proved() {
        let code = Hash::of(b"code");
        let [bob_phone, ..] = principals();
        let made = command(&bob(), bob_phone, Request::Enrol { code });
        let Ok(Command::Enrol(enrol)) = made else {
            panic!("it is enrolled: {made:?}")
        };
        assert_eq!((enrol.code, enrol.device_key), (code, KEY));
        assert_eq!(enrol.client.to_string(), "mimi://a.example/d/bob/phone");
    }

    #[test]
    fn wrong_codes_count_for_the_provider_of_whoever_shows_them() {
        for (who, provider) in
            principals()
                .into_iter()
                .zip(["a.example", "a.example", "b.example", "a.example"])
        {
            let made = command(&bob(), who, Request::Resolve(vec![1].into()));
            let Ok(Command::Introduction(Introduction::Resolve { peer, .. })) = made else {
                panic!("it is looked at: {made:?}")
            };
            assert_eq!(peer.to_string(), provider);
        }
    }
}
