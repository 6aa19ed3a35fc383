//! Every bound, with its unit in its name; what depends on what is asserted at compile time.

/// Longest identifier URI, in bytes.
pub const URI_BYTES_MAX: usize = 1_024;
/// Longest user, client or room name, in bytes.
pub const SEGMENT_BYTES_MAX: usize = 128;
/// Longest domain name, in bytes.
pub const DOMAIN_BYTES_MAX: usize = 253;
/// Longest label of a domain name, in bytes.
pub const DOMAIN_LABEL_BYTES_MAX: usize = 63;
const _: () =
    assert!("mimi:///d//".len() + DOMAIN_BYTES_MAX + 2 * SEGMENT_BYTES_MAX <= URI_BYTES_MAX);

/// Longest text that explains a refusal, in bytes.
pub const REFUSAL_DETAIL_BYTES_MAX: usize = 256;
/// Name of a field in a refusal, in bytes.
pub const FIELD_BYTES_MAX: usize = 64;

/// Largest MLSMessage that carries an application message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Largest MLSMessage that carries a Proposal, in bytes.
pub const PROPOSAL_BYTES_MAX: usize = 64 << 10;
/// Largest Commit, in bytes.
pub const COMMIT_BYTES_MAX: usize = 1 << 20;
/// Largest Welcome, in bytes.
pub const WELCOME_BYTES_MAX: usize = 1 << 20;
/// Largest GroupInfo (it carries no ratchet tree), in bytes.
pub const GROUP_INFO_BYTES_MAX: usize = 64 << 10;
/// Largest ratchet tree, in bytes: it travels whole inside an event, to whoever joins.
pub const TREE_BYTES_MAX: usize = 15 << 17;
/// Largest ratchet tree that a joiner gets whole also when it asks for a delta, in bytes: beside a smaller one no delta is
/// kept, for most rooms are small and nobody joins them.
pub const TREE_SENT_WHOLE_BYTES_MAX: usize = 4 << 10;
/// Memory for trees that a node keeps from one Commit to the next, in bytes; the one not used for longest goes.
pub const TREES_KEPT_BYTES_MAX: usize = 128 << 20;
/// Memory for the groups that OpenMLS audits, kept between Commits, in bytes; the oldest go first.
pub const AUDITED_GROUPS_KEPT_BYTES_MAX: usize = 64 << 20;
/// How many bytes of a tree one byte of its zstd frame may stand for, at most.
pub const ZSTD_RATIO_MAX: usize = 64;
/// Largest Commit bundle, Welcome event or other control event, in bytes.
pub const CONTROL_EVENT_BYTES_MAX: usize = 4 << 20;
const _: () = assert!(
    COMMIT_BYTES_MAX + WELCOME_BYTES_MAX + GROUP_INFO_BYTES_MAX + TREE_BYTES_MAX + (64 << 10)
        <= CONTROL_EVENT_BYTES_MAX
);
/// Largest KeyPackage, in bytes.
pub const KEY_PACKAGE_BYTES_MAX: usize = 16 << 10;
/// Largest authenticated data of an MLS message, in bytes.
pub const AUTHENTICATED_DATA_BYTES_MAX: usize = 16 << 10;
/// Longest MLS group id, in bytes.
pub const GROUP_ID_BYTES_MAX: usize = 1_024;

/// Elements in a vector nested in an MLS object, at most, unless stated.
pub const NESTED_ELEMENTS_MAX: usize = 4_096;
/// Nodes in a ratchet tree, at most.
pub const TREE_NODES_MAX: usize = 1 << 16;
/// Proposals in one Commit or one bundle of Proposals, at most.
pub const PROPOSALS_PER_BUNDLE_MAX: usize = 1_024;
/// Adds in one Commit, at most.
pub const ADDS_PER_COMMIT_MAX: usize = 1_000;
const _: () = assert!(ADDS_PER_COMMIT_MAX <= PROPOSALS_PER_BUNDLE_MAX);
/// Proposals that wait for a Commit in one room, at most.
pub const PROPOSALS_PENDING_PER_ROOM_MAX: usize = 200;
/// Removes that a hub proposes in one room at a time; of more members who departed it proposes the rest once a Commit has
/// taken these in.
pub const HUB_PROPOSALS_PENDING_PER_ROOM_MAX: usize = 200;
const _: () = assert!(
    HUB_PROPOSALS_PENDING_PER_ROOM_MAX + PROPOSALS_PENDING_PER_ROOM_MAX <= PROPOSALS_PER_BUNDLE_MAX
);
/// When a hub tries again to propose what it could not, in milliseconds.
pub const EXPEL_RETRY_MS: u32 = 1_000;
/// Proposals of one client that wait for a Commit in one room, at most.
pub const PROPOSALS_PENDING_PER_CLIENT_MAX: usize = 20;
/// Commit bundles that wait behind the one in flight in one room, at most.
pub const COMMITS_WAITING_PER_ROOM_MAX: usize = 32;
/// Accepted Commits of one member in one room, at once after a rest, by default.
pub const COMMITS_BURST_PER_MEMBER: u32 = 256;
/// Accepted Commits of one member in one room that there may be more, each minute, by default.
pub const COMMITS_PER_MINUTE_PER_MEMBER: u32 = 60;
/// Members of one room whose Commits are counted; the one that used least is forgotten first.
pub const COMMITTERS_COUNTED_PER_ROOM_MAX: usize = 1_024;
/// Accepted bundles whose hash a room remembers, so that a retry gets its first answer.
pub const BUNDLES_REMEMBERED_PER_ROOM_MAX: usize = 256;
/// Accepted Proposals, in requests, whose references a room remembers, so that a retry gets its first answer.
pub const PROPOSALS_REMEMBERED_PER_ROOM_MAX: usize = 256;
/// Members up to which OpenMLS is asked too about a room's Commits (audits them), by default; it decides nothing.
pub const AUDITED_MEMBERS_MAX: usize = 256;
/// Epochs that an application message may be behind the room.
pub const EPOCH_TOLERANCE_EPOCHS: u64 = 5;

/// Components of the policy of one room, at most, those that this hub does not know among them.
pub const POLICY_COMPONENTS_MAX: usize = 64;
/// Components of the policy of one room together, at most, in bytes; what its GroupContext holds besides comes on top.
pub const POLICY_COMPONENTS_BYTES_MAX: usize = 48 << 10;
/// One list in a component of room policy, at most, in bytes.
pub const POLICY_COMPONENT_BYTES_MAX: usize = 40 << 10;
const _: () = assert!(POLICY_COMPONENT_BYTES_MAX < POLICY_COMPONENTS_BYTES_MAX);
/// Participants that a room's policy lists, at most, those without a client and those that are banned among them.
pub const POLICY_PARTICIPANTS_MAX: usize = 1_024;
/// Roles of one room, at most.
pub const POLICY_ROLES_MAX: usize = 64;
/// Capabilities of one role, at most.
pub const POLICY_CAPABILITIES_PER_ROLE_MAX: usize = 256;
/// Entries by which users are preauthorised in one room, at most.
pub const POLICY_PREAUTH_ENTRIES_MAX: usize = 64;
/// Claims of one such entry, at most.
pub const POLICY_PREAUTH_CLAIMS_MAX: usize = 8;
/// Descriptions of one room, at most.
pub const POLICY_DESCRIPTIONS_MAX: usize = 16;
/// Joining links that a room's policy lists, at most.
pub const POLICY_JOIN_LINKS_MAX: usize = 64;
/// Elements of one list of an asset policy, at most.
pub const POLICY_ASSET_ELEMENTS_MAX: usize = 64;
/// A name or another short text in room policy, at most, in bytes.
pub const POLICY_TEXT_BYTES_MAX: usize = 1_024;
/// Proposals that wait in one room with a policy and would change it, at most: no Commit can take in two, and OpenMLS makes none
/// beside another.
pub const POLICY_PROPOSALS_PENDING_PER_ROOM_MAX: usize = 1;
/// Users who came into one room with a policy by themselves and stand in no list yet, at most.
pub const POLICY_ENTERED_PER_ROOM_MAX: usize = 256;

/// Hub keys that a provider may have beside the one that new rooms list; a configuration with more is refused.
pub const HUB_KEYS_MAX: usize = 8;

/// How long a joiner has a room's lease, by default, in milliseconds.
pub const LEASE_MS: u32 = 10_000;
/// Shortest lease that may be configured, in milliseconds.
pub const LEASE_MS_MIN: u32 = 5_000;
/// Longest lease that may be configured, in milliseconds.
pub const LEASE_MS_MAX: u32 = 30_000;
const _: () = assert!(LEASE_MS_MIN <= LEASE_MS && LEASE_MS <= LEASE_MS_MAX);
/// Joiners that wait for the lease of one room, at most; further ones are told `Busy` at once.
pub const JOINERS_WAITING_PER_ROOM_MAX: usize = 256;
/// Places in that queue that clients of one user may have, at most; a further one is told `Busy` at once.
pub const JOINERS_WAITING_PER_USER_MAX: usize = 4;
/// Places in that queue that clients of one other provider may have, at most; as with a user.
pub const JOINERS_WAITING_PER_PROVIDER_MAX: usize = 64;
/// Places in that queue that clients of other providers never have: they are kept for the hub's own.
pub const JOINERS_WAITING_KEPT_PER_ROOM: usize = 64;
const _: () = assert!(
    JOINERS_WAITING_PER_PROVIDER_MAX + JOINERS_WAITING_KEPT_PER_ROOM < JOINERS_WAITING_PER_ROOM_MAX
);
/// How long a place in that queue is kept, beyond the wait that was told, for who could not wait; in milliseconds.
pub const JOINER_PLACE_KEPT_MS: u32 = 5_000;
/// GroupInfo requests and new codes of one room that are being checked, at most; further ones are told `Overloaded`.
pub const JOINERS_IN_CHECK_PER_ROOM_MAX: usize = 64;
/// Of those, requests of clients of one other provider, at most; further ones are told `Overloaded`.
pub const JOINERS_IN_CHECK_PER_PROVIDER_MAX: usize = 16;
/// By how much a lease is longer for the joiner to fetch the tree: a millisecond for so many bytes of it, up to [`LEASE_MS_MAX`].
pub const LEASE_TREE_BYTES_PER_MS: usize = 100;
/// Leases without a Commit that one client may cost a room within [`LEASES_UNUSED_WINDOW_MS`]; then it is `Limited`.
pub const LEASES_UNUSED_MAX: usize = 3;
/// Leases without a Commit that all clients of one user may cost a room within [`LEASES_UNUSED_WINDOW_MS`]; then they are
/// `Limited`.
pub const LEASES_UNUSED_PER_USER_MAX: usize = 6;
/// The same for all clients of one other provider: half of the time.
pub const LEASES_UNUSED_PER_PROVIDER_MAX: usize = 30;
/// How long an unused lease counts, in milliseconds (10 minutes).
pub const LEASES_UNUSED_WINDOW_MS: u64 = 10 * 60 * 1_000;
/// Clients whose unused leases a room remembers; beyond it the one that wasted its last lease longest ago is forgotten.
pub const LEASE_WASTERS_PER_ROOM_MAX: usize = 1_024;
/// Requests that had a lease, whose repetition a room refuses; the oldest is forgotten.
pub const LEASES_REMEMBERED_PER_ROOM_MAX: usize = 128;
/// How far the clock of a joiner may be from the hub's, in milliseconds.
pub const JOINER_CLOCK_SKEW_MS: u64 = 60_000;
/// Bytes of pending Proposals that may go with a GroupInfo; beyond it a member must commit first.
pub const PENDING_SEALED_BYTES_MAX: usize = 2 << 20;
const _: () = assert!(
    GROUP_INFO_BYTES_MAX + TREE_BYTES_MAX + PENDING_SEALED_BYTES_MAX + (64 << 10)
        <= CONTROL_EVENT_BYTES_MAX
);

/// Joining codes of one room, at most, those used up, expired and revoked left out when there is need.
pub const CODES_PER_ROOM_MAX: usize = 64;
/// Length of a joining or introduction code, in random bytes.
pub const CODE_BYTES: usize = 16;
/// Longest joining code that is looked at, in bytes.
pub const CODE_BYTES_MAX: usize = 1_024;
const _: () = assert!(CODE_BYTES <= CODE_BYTES_MAX);
/// Longest passphrase of a joining code, in bytes.
pub const PASSPHRASE_BYTES_MAX: usize = 128;
/// Wrong codes of one client within [`WRONG_CODES_WINDOW_MS`]; then its codes are not looked at for as long.
pub const WRONG_CODES_PER_CLIENT_MAX: u32 = 5;
/// Wrong codes of all clients of one user within [`WRONG_CODES_WINDOW_MS`]; then none is looked at.
pub const WRONG_CODES_PER_USER_MAX: u32 = 8;
/// Wrong codes of one other provider within [`WRONG_CODES_WINDOW_MS`]. After that no more are counted for as long, codes with a
/// passphrase are looked at once in [`WRONG_CODES_LOOK_AFTER_MS`], and others as before: nobody guesses sixteen bytes.
pub const WRONG_CODES_PER_PROVIDER_MAX: u32 = 10;
const _: () = assert!(WRONG_CODES_PER_CLIENT_MAX < WRONG_CODES_PER_USER_MAX);
const _: () = assert!(WRONG_CODES_PER_USER_MAX < WRONG_CODES_PER_PROVIDER_MAX);
/// How long a provider that tried too many wrong codes waits between two with a passphrase, in milliseconds.
pub const WRONG_CODES_LOOK_AFTER_MS: u64 = 60_000;
/// How long a wrong code counts, and how long a lock lasts, in milliseconds (an hour).
pub const WRONG_CODES_WINDOW_MS: u64 = 3_600 * 1_000;
/// Clients and providers whose wrong codes a room, or a user, remembers; beyond it the oldest is forgotten.
pub const GUESSERS_MAX: usize = 1_024;
/// Introduction codes of one user, at most, expired ones left out.
pub const INTRODUCTIONS_PER_USER_MAX: usize = 32;

/// Clients of one user, at most.
pub const CLIENTS_PER_USER_MAX: usize = 32;
/// Unclaimed KeyPackages of one client, at most.
pub const KEY_PACKAGES_PER_CLIENT_MAX: usize = 200;
/// KeyPackages in one upload, at most.
pub const KEY_PACKAGES_PER_UPLOAD_MAX: usize = 100;
/// Longest lifetime of a KeyPackage that is uploaded, by default, in seconds: 400 days, so that those of a year fit, which
/// mls-rs makes; longer ones are refused.
pub const KEY_PACKAGE_LIFETIME_S_MAX: u64 = 400 * 24 * 3_600;
/// A KeyPackage is not handed out in the last moments of its life, in milliseconds.
pub const KEY_PACKAGE_SKEW_MS: u64 = 60_000;
/// Users in one claim, at most.
pub const CLAIM_USERS_MAX: usize = 1_000;
/// Clients in the answer to one claim, at most; the users for whom there is no room are to be asked for again.
pub const CLAIM_CLIENTS_MAX: usize = 10_000;
/// KeyPackages in the answer to one claim, in bytes.
pub const CLAIM_ANSWER_BYTES_MAX: usize = 3 << 20;
const _: () = assert!(
    CLIENTS_PER_USER_MAX * (KEY_PACKAGE_BYTES_MAX + URI_BYTES_MAX) <= CLAIM_ANSWER_BYTES_MAX
);
/// Requesters or providers whose claims on one user are counted; the one that used least is forgotten first.
pub const CLAIMANTS_COUNTED_PER_USER_MAX: usize = 1_024;
/// Requesters or providers whose claims are counted in one shard; the one that used least is forgotten first.
pub const CLAIMANTS_COUNTED_PER_SHARD_MAX: usize = 16_384;
/// Hubs that may get one last-resort KeyPackage, at most; further ones get none.
pub const LAST_RESORT_HUBS_MAX: usize = 1_024;
/// Adds of the clients of one user that wait for a KeyPackage, at most; the oldest is forgotten first.
pub const PENDING_ADDS_PER_USER_MAX: usize = 64;
/// How long such a pending add is remembered, in milliseconds (30 days).
pub const PENDING_ADDS_KEPT_MS: u64 = 30 * 24 * 3_600 * 1_000;
/// Ciphersuites or versions in the ordered lists of a claim, at most.
pub const CLAIM_PREFERENCES_MAX: usize = 64;
/// Capabilities of one kind that a claim may require, at most.
pub const CLAIM_CAPABILITIES_MAX: usize = 256;
/// Claims whose results one user remembers, so that a retry gets the same packages.
pub const CLAIMS_REMEMBERED_PER_USER_MAX: usize = 1_024;
/// How long the result of a claim is kept for a retry, in milliseconds (24 hours).
pub const CLAIM_KEPT_MS: u64 = 24 * 3_600 * 1_000;
/// References of consumed packages that one user remembers, so that none can be uploaded again.
pub const CONSUMED_REFS_PER_USER_MAX: usize = 16_384;
/// KeyPackages of one user of which it is remembered who got them, at most; the oldest is forgotten first, and then whoever
/// got it may use it.
pub const PACKAGES_GIVEN_REMEMBERED_MAX: usize = 4_096;
/// Consent entries of one user, at most.
pub const CONSENTS_PER_USER_MAX: usize = 10_000;
/// Of what a user said about others, entries in one answer, at most.
pub const CONSENTS_LISTED_MAX: usize = 256;
/// Requests for consent that wait for one user's answer, at most; then one of whichever provider has most of them makes room.
pub const CONSENT_REQUESTS_WAITING_MAX: usize = 50;
/// What one user asked of others and heard from them, at most.
pub const CONSENTS_ASKED_PER_USER_MAX: usize = 256;
/// What a user may say in an hour to others who did not ask: requests for consent, and grants.
pub const CONSENTS_SAID_PER_HOUR_MAX: usize = 20;
/// How long such a word counts, in milliseconds (an hour).
pub const CONSENTS_SAID_WINDOW_MS: u64 = 3_600 * 1_000;
/// Extensions of one consent entry, in bytes.
pub const CONSENT_EXTENSIONS_BYTES_MAX: usize = 2 << 10;
/// One consent entry on a link, in bytes: three URIs, extensions, and a KeyPackage of each client.
pub const CONSENT_ENTRY_BYTES_MAX: usize = 3 * (URI_BYTES_MAX + 4)
    + CONSENT_EXTENSIONS_BYTES_MAX
    + CLIENTS_PER_USER_MAX * KEY_PACKAGE_BYTES_MAX
    + 64;
const _: () = assert!(CONSENT_ENTRY_BYTES_MAX < BATCH_FRAME_BYTES_MAX);
/// Of the notes in the inbox of one client, those about consent, at most; then one more says that there are others.
pub const CONSENT_NOTES_PER_CLIENT_MAX: usize = 32;
const _: () = assert!(CONSENT_NOTES_PER_CLIENT_MAX < NOTES_PER_CLIENT_MAX);
/// Enrolment codes of one user that wait to be used, at most.
pub const ENROLMENT_CODES_PER_USER_MAX: usize = 32;
/// How long an enrolment code may be used, in milliseconds (24 hours).
pub const ENROLMENT_CODE_LIFE_MS: u64 = 24 * 3_600 * 1_000;
/// Length of an enrolment code, in random bytes.
pub const ENROLMENT_CODE_BYTES: usize = 16;
/// Inbox items of one client that wait to be acknowledged, at most.
pub const INBOX_ITEMS_PER_CLIENT_MAX: usize = 4_096;
/// Of those, notices of rooms of one other provider, at most; what comes after that is lost, and the client is told so.
pub const INBOX_ITEMS_PER_CLIENT_AND_HUB_MAX: usize = 1_024;
const _: () = assert!(INBOX_ITEMS_PER_CLIENT_AND_HUB_MAX <= INBOX_ITEMS_PER_CLIENT_MAX / 4);
/// Notes of the provider in the inbox of one client that wait to be acknowledged, at most; further ones are not stored.
pub const NOTES_PER_CLIENT_MAX: usize = 64;
const _: () = assert!(NOTES_PER_CLIENT_MAX < INBOX_ITEMS_PER_CLIENT_MAX);
/// Rooms one client may be a member of.
pub const ROOMS_PER_CLIENT_MAX: usize = 10_000;
/// Of those, rooms of one other provider; into another of them the client is not brought.
pub const ROOMS_PER_CLIENT_AND_HUB_MAX: usize = 2_500;
const _: () = assert!(ROOMS_PER_CLIENT_AND_HUB_MAX <= ROOMS_PER_CLIENT_MAX / 4);

/// Application messages in one submission, at most.
pub const SUBMIT_ITEMS_MAX: usize = 512;
/// Submissions of one provider to one room that wait for a verdict, at most.
pub const SUBMISSIONS_UNDECIDED_PER_ROOM_MAX: u32 = 65_536;
/// Requests that wait for verdicts on messages to one followed room, at most; another one is to come again.
pub const VERDICTS_AWAITED_PER_ROOM_MAX: usize = 1_024;
/// Of those, requests of one client, at most.
pub const VERDICTS_AWAITED_PER_CLIENT_MAX: usize = 4;
/// Messages of one member in one epoch that a room knows again when they come under another number: the newest.
pub const MESSAGES_REMEMBERED_PER_EPOCH_MAX: usize = 64;
/// Submissions of one client whose verdict a room remembers.
pub const VERDICTS_PER_CLIENT_MAX: usize = 1_024;
/// Payload bytes in one submission, at most.
pub const SUBMIT_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(MESSAGE_BYTES_MAX <= SUBMIT_BYTES_MAX);

/// Largest frame before the other side is known, in bytes.
pub const GREETING_FRAME_BYTES_MAX: usize = 64 << 10;
/// Largest frame that carries a request or an answer, in bytes.
pub const REQUEST_FRAME_BYTES_MAX: usize = CONTROL_EVENT_BYTES_MAX + (256 << 10);
/// Largest frame of the fan-out, submit and event lanes, in bytes.
pub const BATCH_FRAME_BYTES_MAX: usize = CONTROL_EVENT_BYTES_MAX + (256 << 10);
/// Payload bytes after which a batch is closed.
pub const BATCH_FILL_BYTES: usize = 1 << 20;
/// Events in one batch, at most.
pub const BATCH_EVENTS_MAX: usize = 1_024;
/// Rooms in one batch, at most.
pub const BATCH_ROOMS_MAX: usize = 256;
/// Application messages of a room that a client is given newest first, at a time: fewer than the generations of a sender
/// that a member must tolerate out of order.
pub const WINDOW_EVENTS_MAX: usize = 100;
/// Runs of application messages that control events may overtake for a client, at most; then those are given first.
pub const RUNS_OVERTAKEN_MAX: usize = 4_096;
const _: () = assert!(BATCH_FILL_BYTES + CONTROL_EVENT_BYTES_MAX > BATCH_FRAME_BYTES_MAX);
const _: () = assert!(CONTROL_EVENT_BYTES_MAX < BATCH_FRAME_BYTES_MAX);
const _: () = assert!(SUBMIT_BYTES_MAX + (64 << 10) < BATCH_FRAME_BYTES_MAX);
const _: () = assert!(SUBMIT_ITEMS_MAX <= BATCH_EVENTS_MAX);
/// How long the receiver of a frame may make room for no byte of it, in seconds; then it loses the lane.
pub const LANE_STALL_S_MAX: u64 = 20;
/// How long the receiver of a frame may take to make room for all of it, in seconds; then it loses the lane.
pub const LANE_WRITE_S_MAX: u64 = 60;
/// Bytes of large frames of one client's connection that are being read or looked at, at most; further ones wait.
pub const DOOR_READING_BYTES_MAX: u32 = 16 << 20;
const _: () = assert!(REQUEST_FRAME_BYTES_MAX <= DOOR_READING_BYTES_MAX as usize);
/// As [`DOOR_READING_BYTES_MAX`], of all connections of one peer.
pub const LINK_READING_BYTES_MAX: u32 = 64 << 20;
const _: () = assert!(BATCH_FRAME_BYTES_MAX <= LINK_READING_BYTES_MAX as usize);
/// Frames of one shard sent on a lane and not yet acknowledged, at most.
pub const LANE_FRAMES_UNACKED_MAX: usize = 16;
/// Bytes of frames that the receiver of a lane holds, of all shards on it, before it reads on only once something was
/// answered; there may be one frame more.
pub const LANE_BYTES_HELD_MAX: usize = 64 << 20;
const _: () = assert!(BATCH_FRAME_BYTES_MAX < LANE_BYTES_HELD_MAX);
/// The same of all lanes of one peer at one node, on whichever of its connections: what one lane holds counts for all.
pub const PEER_BYTES_HELD_MAX: usize = 2 * LANE_BYTES_HELD_MAX;
/// Lanes of fan-out that shards share on one connection of a peer, and as many of submissions, at most: an honest peer has
/// one, and for a while those that it has just given up.
pub const SHARED_LANES_MAX: usize = 8;
/// Part of what a lane's receiver may still hold that it gives one shard as credit: shards that are slow then never have
/// all of it.
pub const LANE_CREDIT_SHARE: usize = 4;

/// Payload bytes of a shard under way on a fan-out lane before its first acknowledgement, at most.
pub const CREDIT_BYTES_FIRST: u32 = 4 << 20;
/// Payload bytes of one shard that a receiver lets be under way on a fan-out lane, by default.
pub const CREDIT_BYTES: u32 = 16 << 20;
/// Longest wait that a receiver of fan-out may ask for, in milliseconds; what is longer is cut to this.
pub const RETRY_AFTER_MS_MAX: u32 = 60_000;
/// Submissions of one provider that are refused at once after a rest, before it is read more slowly.
pub const REFUSED_ITEMS_BURST: u32 = 16_384;
/// Submissions of one provider that may be refused more, each minute: beyond it its next frames wait.
pub const REFUSED_ITEMS_PER_MINUTE: u32 = 60_000;
/// Rooms that begin at a node because one provider brings clients in, at once after a rest, before it is read more slowly.
pub const ROOMS_BEGUN_BURST_PER_PEER: u32 = 10_000;
/// Rooms of one provider that may begin more, each minute: beyond it its next frames wait.
pub const ROOMS_BEGUN_PER_MINUTE_PER_PEER: u32 = 6_000;
/// Things that one provider may ask for in vain at once after a rest: users of a claim who give nothing, clients that are not
/// vouched for, codes that nobody made, requests that rooms refuse. Then its requests stand in line.
pub const ASKED_IN_VAIN_BURST_PER_PEER: u32 = 16_384;
/// Things that one provider may ask for in vain more, each minute.
pub const ASKED_IN_VAIN_PER_MINUTE_PER_PEER: u32 = 60_000;
/// Requests of one that stand in line at a node because it asked for too much in vain, at most; further ones are told
/// `Overloaded` at once.
pub const IN_LINE_MAX: usize = 256;
/// Users of whom one user of this provider may claim in vain at one node, at once after a rest; then its claims stand in line.
pub const CLAIMED_IN_VAIN_BURST_PER_USER: u32 = 4_096;
/// Users of whom it may claim in vain more, each minute.
pub const CLAIMED_IN_VAIN_PER_MINUTE_PER_USER: u32 = 600;
/// Bytes of Welcomes and trees, in units of [`INVITED_BYTES`], that one provider may send at once after a rest, before it is
/// read more slowly: 32 MiB.
pub const INVITED_BURST_PER_PEER: u32 = 4_096;
/// Such units of one provider that there may be more, each minute: beyond it its next frames wait (128 MiB).
pub const INVITED_PER_MINUTE_PER_PEER: u32 = 16_384;
/// Bytes of a Welcome and its tree for which it counts once.
pub const INVITED_BYTES: usize = 8 << 10;
/// Bytes of a refused submission for which it counts once more: a large one costs as much as several.
pub const REFUSED_ITEM_BYTES: usize = 4 << 10;
/// Providers whose refused submissions a node counts; the one that used least is forgotten first.
pub const PEERS_COUNTED_MAX: usize = 1_024;
/// Handshakes under way at one door, at most; each address may have one more whatever others do.
pub const HANDSHAKES_MAX: usize = 1_024;
/// Of those, handshakes of one address, at most; further ones are refused.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 64;
/// Handshakes under way of addresses that were not shown to be their sender's; further ones are told to come again from
/// one that is (Retry).
pub const HANDSHAKES_UNPROVEN_MAX: usize = 32;
const _: () = assert!(HANDSHAKES_UNPROVEN_MAX * 16 <= HANDSHAKES_MAX);
/// Connections of one address that begin at once after a rest, at the doors of peers and of nodes.
pub const HANDSHAKES_BURST_PER_ADDRESS: u32 = 64;
/// Connections of one address that may begin more, each minute: further ones are refused before any cryptography.
pub const HANDSHAKES_PER_MINUTE_PER_ADDRESS: u32 = 600;
/// As [`HANDSHAKES_BURST_PER_ADDRESS`], at the clients' door, by default: many clients may share an address.
pub const CLIENT_HANDSHAKES_BURST_PER_ADDRESS: u32 = 256;
/// As [`HANDSHAKES_PER_MINUTE_PER_ADDRESS`], at the clients' door, by default.
pub const CLIENT_HANDSHAKES_PER_MINUTE_PER_ADDRESS: u32 = 6_000;
/// Connections that one peer, or one node of the cluster, may bring in: each of its nodes has one, and a restarted node one
/// more for a while.
pub const LINKS_PER_PEER_MAX: usize = 16;
/// Connections of clients and strangers at one node, at most.
pub const DOORS_MAX: usize = 16_384;
/// Of those, connections of one address, at most, by default; a whole network may be behind it.
pub const DOORS_PER_ADDRESS_MAX: usize = 4_096;
/// Addresses whose connections are counted; the one that used least is forgotten first.
pub const ADDRESSES_COUNTED_MAX: usize = 4_096;
/// Runs of items on one link, at most: rooms of a peer that is further behind wait beside it, as few runs each.
pub const LINK_RUNS_MAX: u32 = 65_536;
/// Runs kept of one room that waits beside a link, at most; of what comes after only the fact that it is lost is kept.
pub const PARKED_RUNS_PER_ROOM_MAX: usize = 4_096;

/// Words of what clients have read of rooms of a shard in one command, at most.
pub const READS_TOLD_MAX: usize = 1_024;
/// Words of what clients have read that wait on a node for the shard of the rooms, at most. One that finds no place is
/// lost: events are kept for longer.
pub const READS_WAITING_MAX: usize = 65_536;

/// Items that may be owed to one provider by one shard before it is brought into no more rooms of the shard, by default.
pub const BACKLOG_ITEMS_MAX: u64 = 1_000_000;
/// When a Commit may be sent again that would bring in a provider that is too far behind, in milliseconds.
pub const PEER_BEHIND_RETRY_AFTER_MS: u32 = 10_000;

/// Commands in one log entry, at most.
pub const ENTRY_COMMANDS_MAX: usize = 4_096;
/// Payload bytes after which a log entry is closed.
pub const ENTRY_FILL_BYTES: usize = 2 << 20;
/// Largest command in a log entry, in bytes: a Commit, with the next tree whole and as a delta, and who comes and goes.
pub const COMMAND_BYTES_MAX: usize = 10 << 20;
const _: () = assert!(
    COMMIT_BYTES_MAX
        + WELCOME_BYTES_MAX
        + 2 * (TREE_BYTES_MAX + GROUP_INFO_BYTES_MAX)
        + (ADDS_PER_COMMIT_MAX + 2 * PROPOSALS_PER_BUNDLE_MAX) * (URI_BYTES_MAX + 256)
        <= COMMAND_BYTES_MAX
);
const _: () = assert!(BATCH_FRAME_BYTES_MAX <= COMMAND_BYTES_MAX);
/// Largest log entry, in bytes: a full one and one more command. A larger one is neither written nor passed on.
pub const ENTRY_BYTES_MAX: usize = ENTRY_FILL_BYTES + COMMAND_BYTES_MAX;
/// Largest frame between the nodes of a cluster, in bytes: it holds an entry, and what goes around it.
pub const CLUSTER_FRAME_BYTES_MAX: usize = 16 << 20;
const _: () = assert!(ENTRY_BYTES_MAX + (1 << 20) <= CLUSTER_FRAME_BYTES_MAX);
/// Shards of a provider, where its operator says nothing else when it is made.
pub const SHARDS_DEFAULT: u16 = 16;
/// Shards of a provider, at most.
pub const SHARDS_MAX: u16 = 1_024;
/// Commands that wait for the shard log of one shard, at most.
pub const SHARD_QUEUE_COMMANDS_MAX: usize = 1_024;
/// Requests of clients that one node works on at a time; each client may have [`REQUESTS_PER_CLIENT_ALWAYS`] more.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 4_096;
/// Rooms and users of a node that are awake as actors, at most, by default: what is asked of a sleeper then is to come again.
pub const ACTORS_AWAKE_MAX: usize = 65_536;
/// Of those, requests of one client, at most; further ones are told `Overloaded`.
pub const REQUESTS_PER_CLIENT_MAX: usize = 64;
/// Requests of one client that are worked on whatever others have.
pub const REQUESTS_PER_CLIENT_ALWAYS: usize = 8;
const _: () = assert!(REQUESTS_PER_CLIENT_ALWAYS <= REQUESTS_PER_CLIENT_MAX);
/// Rooms that one user may create at one node at once after a rest; then it is told when to come again.
pub const ROOMS_CREATED_BURST_PER_USER: u32 = 1_000;
/// Rooms that one user may create there more, each minute.
pub const ROOMS_CREATED_PER_MINUTE_PER_USER: u32 = 60;
/// Users whose new rooms are counted at one node; the one that used least is forgotten first.
pub const USERS_COUNTED_MAX: usize = 4_096;
/// Requests of other providers that one node works on at a time; each may have [`REQUESTS_PER_PEER_ALWAYS`] more.
pub const PEER_REQUESTS_MAX: usize = 4_096;
/// Of those, requests of one provider, at most; further ones are told `Overloaded`.
pub const REQUESTS_PER_PEER_MAX: usize = 1_024;
/// Requests of one provider that are worked on whatever others have.
pub const REQUESTS_PER_PEER_ALWAYS: usize = 64;
const _: () = assert!(REQUESTS_PER_PEER_ALWAYS <= REQUESTS_PER_PEER_MAX);
/// Requests of one client that may stand in the queues of rooms, at most; further ones are told `Overloaded`.
pub const WAITS_PER_CLIENT_MAX: usize = 32;
/// Requests of one provider that may stand in the queues of rooms, at most; further ones are told `Overloaded`.
pub const PEER_WAITS_MAX: usize = 1_024;
/// Logins that one node looks at at a time; each address may have one more.
pub const STRANGER_REQUESTS_MAX: usize = 256;
/// Of those, logins from one address, at most; further ones are told `Overloaded`.
pub const REQUESTS_PER_ADDRESS_MAX: usize = 16;
/// Connections that are nobody's yet, at most; each address may have [`STRANGERS_PER_ADDRESS_ALWAYS`] more. They have ten
/// seconds to log in.
pub const STRANGERS_MAX: usize = 2_048;
/// Of those, connections of one address, at most; further ones are closed.
pub const STRANGERS_PER_ADDRESS_MAX: usize = 256;
/// Connections of one address that may be nobody's whatever others have.
pub const STRANGERS_PER_ADDRESS_ALWAYS: usize = 4;
/// Wrong logins on one connection: with the last it is closed.
pub const WRONG_LOGINS_PER_CONNECTION_MAX: u32 = 3;
/// Wrong logins from one address at once after a rest, by default; then its logins are told when to come again.
pub const WRONG_LOGINS_BURST_PER_ADDRESS: u32 = 60;
/// Wrong logins from one address that there may be more, each minute, by default.
pub const WRONG_LOGINS_PER_MINUTE_PER_ADDRESS: u32 = 60;
/// When a wrong login is answered, in milliseconds: what was looked up for it cannot be told by the time.
pub const WRONG_LOGIN_ANSWER_MS: u64 = 200;
/// Connections of one client, at most; with one more its oldest is closed.
pub const CONNECTIONS_PER_CLIENT_MAX: usize = 8;
/// Event streams on one connection of a client, at most; further ones are told `Overloaded`.
pub const EVENT_LANES_PER_CONNECTION_MAX: usize = 4;
/// Lanes for messages on one connection of a client, at most; further ones are told `Overloaded`.
pub const SEND_LANES_PER_CONNECTION_MAX: usize = 8;
/// Bytes of answers that wait to be taken on one connection of a client, at most; a further answer is lost with its lane.
pub const ANSWER_BYTES_WAITING_MAX: usize = 32 << 20;
const _: () = assert!(REQUEST_FRAME_BYTES_MAX < ANSWER_BYTES_WAITING_MAX);
/// The same of all connections of one peer.
pub const PEER_ANSWER_BYTES_WAITING_MAX: usize = 2 * ANSWER_BYTES_WAITING_MAX;
/// Largest frame of acknowledgements of a client, in bytes: two lists of rooms.
pub const ACKS_FRAME_BYTES_MAX: usize = 2 * BATCH_ROOMS_MAX * (URI_BYTES_MAX + 16) + 64;
/// Frames of acknowledgements that wait on one event stream, at most; further ones wait in the lane.
pub const ACKS_WAITING_MAX: usize = 2;
/// Inputs that wait in one actor's mailbox, at most.
pub const MAILBOX_INPUTS_MAX: usize = 256;
/// Checks that wait for a worker, at most; beyond it whoever has most waiting makes room for who has less.
pub const CHECKS_WAITING_MAX: usize = 256;
/// Checks of one client of this provider that wait for a worker, at most; further ones are told to come again.
pub const CHECKS_WAITING_PER_CLIENT_MAX: usize = 64;
/// Checks of the clients of one other provider that wait for a worker, at most.
pub const CHECKS_WAITING_PER_PROVIDER_MAX: usize = 128;
const _: () = assert!(CHECKS_WAITING_PER_PROVIDER_MAX <= CHECKS_WAITING_MAX / 2);
