use super::*;
use crate::{ids::UserUri, policy::sets};
use proptest::prelude::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.map(byte).collect()
}

fn user(provider: &str, name: &str) -> UserUri {
    format!("mimi://{provider}.example/u/{name}")
        .parse()
        .unwrap()
}

fn participant(provider: &str, name: &str, role_index: u32) -> Participant {
    let user = user(provider, name);
    Participant { user, role_index }
}

const LIST: &str = "38186d696d693a2f2f612e6578616d706c652f752f616c69636500000004166d696d693a2f2f622e6578616d706c652f752f626f6200000002";
const UPDATE: &str =
    "080000000100000003001d186d696d693a2f2f632e6578616d706c652f752f636174687900000002";

#[test]
fn the_participant_list_and_its_update_are_the_bytes_of_the_worked_examples() {
    let list = ParticipantList {
        participants: vec![participant("a", "alice", 4), participant("b", "bob", 2)],
    };
    assert_eq!(list.encode(), bytes(LIST));
    assert_eq!(ParticipantList::decode(&bytes(LIST)), Ok(list.clone()));
    let update = ParticipantListUpdate {
        changed_roles: vec![(1, 3)],
        removed: vec![],
        added: vec![participant("c", "cathy", 2)],
    };
    assert_eq!(update.encode(), bytes(UPDATE));
    assert_eq!(
        ParticipantListUpdate::decode(&bytes(UPDATE)),
        Ok(update.clone())
    );
    let after = update.apply(&list).unwrap();
    let expected = [
        participant("a", "alice", 4),
        participant("b", "bob", 3),
        participant("c", "cathy", 2),
    ];
    assert_eq!(after.participants, expected);
    assert_eq!(ParticipantListUpdate::between(&list, &after), update);
}

#[test]
fn an_update_touches_each_user_once_and_only_places_that_there_are() {
    let list = ParticipantList::decode(&bytes(LIST)).unwrap();
    let update = |changed_roles: &[(u32, u32)], removed: &[u32], added: &[Participant]| {
        ParticipantListUpdate {
            changed_roles: changed_roles.to_vec(),
            removed: removed.to_vec(),
            added: added.to_vec(),
        }
    };
    let alice = participant("a", "alice", 2);
    for (update, field) in [
        (update(&[(2, 3)], &[], &[]), "user_index"),
        (update(&[], &[2], &[]), "removedIndices"),
        (update(&[(1, 3)], &[1], &[]), "removedIndices"),
        (update(&[], &[1, 1], &[]), "removedIndices"),
        (
            update(&[], &[0], std::slice::from_ref(&alice)),
            "addedParticipants",
        ),
    ] {
        let refused = update.apply(&list).unwrap_err();
        assert_eq!(refused.field, field, "{update:?}");
        assert_eq!(refused.component, ComponentId::PARTICIPANTS);
    }
}

fn preauth() -> PreAuthList {
    let claim = Claim {
        credential_type: 1,
        id: b"provider".to_vec(),
        value: b"a.example".to_vec(),
    };
    let target = sets::moderated().roles[3].clone();
    let entry = PreAuthEntry {
        claims: vec![claim],
        target,
    };
    PreAuthList {
        entries: vec![entry],
    }
}

fn base() -> BaseRoomPolicy {
    BaseRoomPolicy {
        multi_device: true,
        clients_max: Some(7),
        components: vec![ComponentId::ROLES, ComponentId::PREAUTH],
        ..BaseRoomPolicy::default()
    }
}

/// One of each, with what it is read by.
fn samples() -> Vec<(ComponentId, Vec<u8>)> {
    fn sample<C: Component>(component: &C) -> (ComponentId, Vec<u8>) {
        (C::ID, component.encode())
    }
    let metadata = RoomMetadata {
        room_uri: "mimi://a.example/r/hall".to_owned(),
        name: "Hall".to_owned(),
        descriptions: vec![Description {
            language_tag: "en".to_owned(),
            content: b"where we meet".to_vec(),
            ..Description::default()
        }],
        ..RoomMetadata::default()
    };
    let links = JoinLinks {
        links: vec!["mimi://a.example/l/one".to_owned()],
    };
    let assets = AssetPolicy {
        location: 1,
        domains: vec![UploadDomains {
            provider: "a.example".to_owned(),
            destinations: vec!["files.a.example".to_owned()],
        }],
        privacy: DownloadPrivacy {
            allowed: vec![1, 2],
            forbidden: vec![0],
            usual: 1,
        },
        sizes_max: [1, 2, 3, 4],
        permitted_types: Some(vec![]),
        ..AssetPolicy::default()
    };
    vec![
        (ComponentId::PARTICIPANTS, bytes(LIST)),
        sample(&metadata),
        sample(&Operational::new(true, false, 3)),
        sample(&sets::multi_organization()),
        sample(&preauth()),
        sample(&base()),
        sample(&JoinLinkPolicy {
            join_link: "mimi://a.example/l/one".to_owned(),
            multiuser: true,
            expiration_s: 9,
            ..JoinLinkPolicy::default()
        }),
        sample(&links),
        sample(&assets),
    ]
}

/// Reads a component by its number and writes it again.
fn again(component: ComponentId, data: &[u8]) -> Result<Vec<u8>, BadComponent> {
    fn both<C: Component>(data: &[u8]) -> Result<Vec<u8>, BadComponent> {
        C::decode(data).map(|component| component.encode())
    }
    match component {
        ComponentId::PARTICIPANTS => both::<ParticipantList>(data),
        ComponentId::METADATA => both::<RoomMetadata>(data),
        ComponentId::OPERATIONAL => both::<Operational>(data),
        ComponentId::ROLES => both::<RolesList>(data),
        ComponentId::PREAUTH => both::<PreAuthList>(data),
        ComponentId::BASE => both::<BaseRoomPolicy>(data),
        ComponentId::JOIN_LINK_POLICY => both::<JoinLinkPolicy>(data),
        ComponentId::JOIN_LINKS => both::<JoinLinks>(data),
        ComponentId::ASSETS => both::<AssetPolicy>(data),
        other => panic!("{other} is not read"),
    }
}

#[test]
fn every_component_writes_itself_again_byte_for_byte() {
    for (component, data) in samples() {
        assert_eq!(again(component, &data), Ok(data), "{component}");
    }
}

#[test]
fn a_component_that_is_cut_or_goes_on_is_refused_by_its_name() {
    for (component, data) in samples() {
        // What follows the tolerance of the operational policy is kept as it is.
        let whole = component != ComponentId::OPERATIONAL;
        for end in 0..data.len() {
            let refused = again(component, &data[..end]).unwrap_err();
            assert_eq!(refused.component, component, "at {end}");
        }
        let longer = [&data[..], &[0]].concat();
        assert_eq!(again(component, &longer).is_err(), whole, "{component}");
    }
}

/// A role with the bytes of these two lists in their order.
fn role_of(capabilities: &[u16], from: &[u32]) -> Vec<u8> {
    let mut role = Vec::new();
    role.extend(2_u32.to_be_bytes());
    put_vector(&mut role, b"guest");
    put_vector(&mut role, b"");
    let numbers: Vec<u8> = capabilities
        .iter()
        .flat_map(|one| one.to_be_bytes())
        .collect();
    put_vector(&mut role, &numbers);
    role.extend([0; 10]);
    let changes: Vec<u8> = from
        .iter()
        .flat_map(|from| [&from.to_be_bytes()[..], &[0]].concat())
        .collect();
    put_vector(&mut role, &changes);
    let mut list = Vec::new();
    put_vector(&mut list, &role);
    list
}

#[test]
fn capabilities_and_changes_of_a_role_are_read_in_any_order_and_none_twice() {
    let ascending = role_of(&[0x0000, 0x0100], &[0, 2]);
    for other in [
        role_of(&[0x0100, 0x0000], &[0, 2]),
        role_of(&[0x0000, 0x0100], &[2, 0]),
    ] {
        assert_eq!(again(ComponentId::ROLES, &other), Ok(ascending.clone()));
    }
    for (twice, field) in [
        (role_of(&[1, 1], &[0]), "role_capabilities"),
        (role_of(&[1], &[0, 0]), "from_role_index"),
    ] {
        let refused = again(ComponentId::ROLES, &twice).unwrap_err();
        assert_eq!(refused.field, field);
    }
}

/// What may not stand in each, and the field that is named.
#[test]
fn what_contradicts_itself_is_refused_by_component_and_field() {
    let roles = |change: fn(&mut Vec<Role>)| {
        let mut list = sets::moderated();
        change(&mut list.roles);
        (ComponentId::ROLES, list.encode())
    };
    let twice = [participant("a", "alice", 2), participant("a", "alice", 3)];
    let nobody = [participant("a", "alice", 0)];
    let list = |participants: &[Participant]| {
        let participants = participants.to_vec();
        let list = ParticipantList { participants };
        (ComponentId::PARTICIPANTS, list.encode())
    };
    let parent = BaseRoomPolicy {
        parent_dependent: true,
        ..base()
    };
    let everybody = PreAuthEntry {
        claims: vec![],
        target: Role::default(),
    };
    let everybody = PreAuthList {
        entries: vec![everybody],
    };
    let link = JoinLinkPolicy {
        on_request: true,
        join_link: "mimi://a.example/l/one".to_owned(),
        ..JoinLinkPolicy::default()
    };
    let both_ways = AssetPolicy {
        privacy: DownloadPrivacy {
            allowed: vec![1],
            forbidden: vec![1],
            usual: 0,
        },
        ..AssetPolicy::default()
    };
    let nul = RoomMetadata {
        name: "a\0b".to_owned(),
        ..RoomMetadata::default()
    };
    let cases = [
        (list(&twice), "user"),
        (list(&nobody), "role_index"),
        ((ComponentId::PARTICIPANTS, bytes("06016100000002")), "user"),
        (
            roles(|all| {
                let last = all[6].clone();
                all.push(last);
            }),
            "role_index",
        ),
        (roles(|all| all[1].name = "exiled".to_owned()), "role_name"),
        (
            roles(|all| {
                all[5].changes.insert(2, vec![9]);
            }),
            "authorized_role_changes",
        ),
        (
            roles(|all| {
                all[5].participants_min = 2;
                all[5].participants_max = Some(1);
            }),
            "minimum_participants_constraint",
        ),
        ((ComponentId::BASE, parent.encode()), "parent_room"),
        ((ComponentId::PREAUTH, everybody.encode()), "claimset"),
        ((ComponentId::JOIN_LINK_POLICY, link.encode()), "join_link"),
        (
            (ComponentId::ASSETS, both_ways.encode()),
            "forbidden_download_types",
        ),
        (
            (
                ComponentId::OPERATIONAL,
                Operational::new(true, true, 6).encode(),
            ),
            "epoch_tolerance",
        ),
        ((ComponentId::METADATA, nul.encode()), "room_name"),
    ];
    for ((component, data), field) in cases {
        let refused = again(component, &data).unwrap_err();
        assert_eq!((refused.component, refused.field), (component, field));
    }
}

#[test]
fn a_list_that_is_too_long_is_refused_for_its_limit() {
    let many = |count: usize| ParticipantList {
        participants: (0..count)
            .map(|number| participant("a", &format!("u{number}"), 2))
            .collect(),
    };
    let max = crate::limits::POLICY_PARTICIPANTS_MAX;
    assert!(ParticipantList::decode(&many(max).encode()).is_ok());
    let refused = ParticipantList::decode(&many(max + 1).encode()).unwrap_err();
    assert_eq!(refused.field, "participants");
    let role = |index| Role {
        index,
        ..Role::default()
    };
    let max = u32::try_from(crate::limits::POLICY_ROLES_MAX).unwrap();
    let roles = |count| RolesList {
        roles: (2..2 + count).map(role).collect(),
    };
    assert!(RolesList::decode(&roles(max).encode()).is_ok());
    let refused = RolesList::decode(&roles(max + 1).encode()).unwrap_err();
    assert_eq!(refused.field, "roles");
}

#[test]
fn a_dictionary_is_read_by_ascending_numbers_and_written_with_a_component_changed() {
    let empty = Dictionary::default();
    let one = empty.encode_with(ComponentId::METADATA, b"one");
    let read = Dictionary::decode(&one).unwrap();
    assert_eq!(read.get(ComponentId::METADATA), Some(&b"one"[..]));
    let both = read.encode_with(ComponentId::PARTICIPANTS, b"two");
    let both = Dictionary::decode(&both).unwrap();
    assert_eq!(read.differing(&both), [ComponentId::PARTICIPANTS]);
    assert_eq!(both.differing(&both), []);
    // The same two, the other way round.
    let backwards = [&[0x0c][..], &[0, 0x23, 3], b"one", &[0, 0x22, 3], b"two"].concat();
    let refused = Dictionary::decode(&backwards).unwrap_err();
    assert_eq!(refused.component, ComponentId::DICTIONARY);
    assert_eq!(refused.field, "component_id");
}

#[test]
fn the_first_entry_all_of_whose_claims_hold_gives_the_role() {
    let list = preauth();
    assert_eq!(list.role_of(&user("a", "alice")), Some(3));
    assert_eq!(list.role_of(&user("b", "bob")), None);
}

/// Whether what was read and written is what it was; a role's lists may have stood in another order, and are as long.
fn is_same(component: ComponentId, written: &[u8], data: &[u8]) -> bool {
    if !matches!(component, ComponentId::ROLES | ComponentId::PREAUTH) {
        return written == data;
    }
    again(component, written).as_deref() == Ok(written) && written.len() == data.len()
}

proptest! {
    #[test]
    fn whatever_reads_writes_itself_again(which in 0..9_usize, data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (component, _) = samples()[which];
        if let Ok(written) = again(component, &data) {
            prop_assert!(is_same(component, &written, &data));
        }
    }

    #[test]
    fn a_component_with_a_byte_changed_reads_as_it_is_or_not_at_all(which in 0..9_usize, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let (component, mut data) = samples().swap_remove(which);
        let at = at.index(data.len());
        data[at] = byte;
        if let Ok(written) = again(component, &data) {
            prop_assert!(is_same(component, &written, &data));
        }
    }
}
