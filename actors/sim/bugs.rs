//! The bugs that can be planted: their names, and what each does. See [`crate::planted`].

/// Name, and what is wrong with it planted.
pub const BUGS: &[(&str, &str)] = &[
    (
        "skip_epoch_check",
        "apply takes a Commit checked in another epoch",
    ),
    (
        "external_removes_another",
        "who enters may remove another's leaf",
    ),
    ("two_leases", "a joiner gets the lease that another one has"),
    (
        "lease_survives_epoch",
        "a lease of an epoch that is over is good in the next",
    ),
    ("external_commit_without_lease", "who has no lease enters"),
    (
        "anybody_enters",
        "a user without a client in the room enters it",
    ),
    ("code_used_twice", "who joins by a code does not use it up"),
    (
        "code_not_released",
        "a code is used up by the lease, though nobody joined",
    ),
    (
        "code_survives_its_end",
        "a code admits after its time, its last join and its end",
    ),
    (
        "lease_survives_its_code",
        "who has the lease enters by a code that was ended",
    ),
    (
        "lock_ignored",
        "who tried too many wrong codes may go on trying",
    ),
    (
        "guesses_lock_everybody",
        "whoever tries wrong codes locks all others out",
    ),
    (
        "delta_base_unchecked",
        "a tree delta of another tree is taken for one of this",
    ),
    ("reinit_goes_on", "a room goes on after a ReInit"),
    (
        "self_remove_omitted",
        "a Commit may leave in who is leaving",
    ),
    (
        "mutual_removal_passes",
        "a Commit may take in members that remove one another",
    ),
    ("forget_bundles", "a retried Commit is judged anew"),
    ("forget_proposals", "a retried Proposal is judged anew"),
    (
        "sleep_forgets_bundles",
        "a room that slept has forgotten which Commits it took",
    ),
    ("creation_forgotten", "a retried creation is refused"),
    (
        "refused_group_info_readable",
        "a refused bundle's GroupInfo becomes the room's",
    ),
    (
        "answer_before_sync",
        "an entry counts before the leader's disk has it",
    ),
    (
        "vote_for_a_shorter_log",
        "a leader may lack what is committed",
    ),
    ("stale_disk_votes", "a node that lost its disk votes on"),
    (
        "full_disk_counts",
        "what a full disk did not take counts as synced",
    ),
    (
        "full_disk_leads",
        "a leader whose disk is full goes on leading",
    ),
    (
        "full_disk_drops_acks",
        "an acknowledgement that a full disk refused is recorded no more",
    ),
    (
        "half_rotation_is_damage",
        "a node that ended in the middle of a rotation does not start again",
    ),
    (
        "discards_what_is_needed",
        "entries that are still owed go with the log",
    ),
    (
        "refused_forgotten",
        "what a peer refuses of a room is not kept",
    ),
    ("redrive_forgets", "a redriven room is not sent again"),
    (
        "credit_ignored",
        "more is under way than the receiver allows",
    ),
    (
        "snapshot_without_links",
        "a snapshot forgets what is owed to whom",
    ),
    (
        "snapshot_without_entries",
        "a snapshot comes without the entries that it points at",
    ),
    ("stale_leader_answers", "a deposed leader still decides"),
    (
        "package_not_consumed",
        "a KeyPackage stays in stock when it is claimed",
    ),
    (
        "claim_id_not_remembered",
        "the same claim burns packages twice",
    ),
    ("deleted_user_stays", "a deleted user still gives packages"),
    (
        "claims_unlimited",
        "a user may be claimed as often as anybody likes",
    ),
    (
        "limits_forgotten",
        "who wakes, or leads anew, has forgotten how often a user was claimed",
    ),
    (
        "last_resort_given_again",
        "a hub gets a last-resort package twice",
    ),
    (
        "wanted_forgotten",
        "who wakes has forgotten who wanted its clients in vain",
    ),
    (
        "refill_not_told",
        "another provider does not hear of a refill",
    ),
    (
        "claims_pass_by_the_hub",
        "a claim for a room does not go through its hub",
    ),
    (
        "relay_not_vouched_for",
        "the hub of a room may claim for anybody",
    ),
    ("dedup_lost", "a submission that comes again is taken again"),
    ("submit_number_reused", "two submissions get one number"),
    ("verdict_missing", "a refused submission gets no final word"),
    (
        "accept_after_removal",
        "a removed member's message is taken",
    ),
    (
        "reads_on_after_removal",
        "a removed member is given what comes after",
    ),
    (
        "proposal_not_fanned_out",
        "a Commit arrives without its Proposals",
    ),
    (
        "welcome_to_wrong_provider",
        "a Welcome goes to every provider",
    ),
    (
        "follower_takes_again",
        "an event that comes again is taken again",
    ),
    ("follower_skips_gap", "a missing event is passed over"),
    (
        "gap_deletes_room",
        "a follower that misses an event forgets its room",
    ),
    (
        "invitation_under_way_forgotten",
        "what comes behind an Invitation is refused for good",
    ),
    (
        "ack_before_durable",
        "a batch is acknowledged before it is on disk",
    ),
    ("ack_off_by_one", "one item too many counts as acknowledged"),
    (
        "records_what_was_sent",
        "what was sent counts as acknowledged",
    ),
    (
        "ack_ahead_believed",
        "an acknowledgement of what was never sent is believed",
    ),
    ("cursor_moves_backwards", "a client's cursor goes back"),
    (
        "lane_ack_swallows_messages",
        "an acknowledgement of control events counts for the messages between them",
    ),
    (
        "window_in_order",
        "who asked for the newest messages first gets the oldest first",
    ),
    (
        "control_runs_away",
        "a Commit comes before messages that nobody can read any more after it",
    ),
    (
        "first_reader_is_all",
        "what one client has read is forgotten for all of its provider",
    ),
    (
        "behind_brought_in",
        "a provider for which too much waits is brought into rooms",
    ),
    (
        "owed_forgotten",
        "what everybody here has read is forgotten before other providers have it",
    ),
    (
        "young_forgotten",
        "events are forgotten before their time is over",
    ),
    (
        "gap_not_told",
        "who comes too late is not told what it misses",
    ),
    (
        "notice_dropped_when_unavailable",
        "a notice that nobody took is forgotten",
    ),
    (
        "time_goes_back",
        "a clock that jumps back takes the room along",
    ),
    (
        "put_right_counts",
        "a clock that was behind, and is put right, takes the room along",
    ),
    (
        "door_trusts_sender",
        "a peer may speak for anybody's clients",
    ),
    (
        "door_trusts_requester",
        "a peer may claim for anybody's users",
    ),
    (
        "lane_trusts_sender",
        "a peer may submit for anybody's clients",
    ),
    ("fanout_from_anybody", "a peer may fan out anybody's rooms"),
];
