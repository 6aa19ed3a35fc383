//! The figures of a node as Prometheus reads them. The HELP of each series is its documentation.
//!
//! Promises: labels are shards, configured peers and words of this file, so that nobody outside can make more of them.
//! The recorder lives for one rendering: what is gone leaves no series behind, and as nothing is summed over time in
//! it, it needs no upkeep.

use super::{
    door_metrics,
    figures::{Cursor, Figures, ScrubFigures},
};
use crate::cluster::raft::figures::{GroupFigures, Role};
use metrics::{Label, counter, describe_counter, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::PrometheusBuilder;

/// The figures as text.
pub(crate) fn render(figures: &Figures) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    with_local_recorder(&recorder, || {
        show_gauge(
            "mimi_ready",
            "1 when the node is ready for users and peers, as /readyz says; else 0.",
            [(vec![], u64::from(figures.ready))],
        );
        show_gauge(
            "mimi_clock_apart_ms",
            "How far the machine's clock is from the time that the node goes by, either way, in milliseconds.",
            [(vec![], figures.clock_apart_ms)],
        );
        show_shards(&figures.groups);
        show_log(figures);
        show_scrub(&figures.scrub);
        show_certificates(figures);
        show_links(figures);
        show_queues(figures);
        door_metrics::show(figures);
        show_counter(
            "mimi_key_packages_claimed_total",
            "KeyPackages of this provider's users that were handed out, by the log that this node has; not by its start.",
            figures.packages_claimed,
        );
        show_counter(
            "mimi_mls_objections_total",
            "KeyPackages, new groups and Commits that this node took and OpenMLS would not have, since the start; a warning says why.",
            figures.mls_objections,
        );
        show_gauge(
            "mimi_actors",
            "Rooms and users in memory, awake or asleep as compact bytes.",
            [
                (labels([("state", "awake")]), figures.actors_awake as u64),
                (labels([("state", "asleep")]), figures.actors_asleep as u64),
            ],
        );
    });
    recorder.handle().render()
}

fn show_shards(groups: &[GroupFigures]) {
    let each = |figure: fn(&GroupFigures) -> u64| {
        let shards = (0_u16..).zip(groups);
        shards.map(move |(shard, group)| (labels([("shard", shard)]), figure(group)))
    };
    let roles = [
        ("leader", Role::Leader),
        ("voter", Role::Voter),
        ("learner", Role::Learner),
    ];
    let roles = (0_u16..).zip(groups).flat_map(|(shard, group)| {
        roles.map(|(name, role)| {
            let labels = labels([("shard", shard.to_string()), ("role", name.to_owned())]);
            (labels, u64::from(group.role == role))
        })
    });
    show_gauge(
        "mimi_shard_role",
        "1 for this node's part in the shard's group, 0 for the others.",
        roles,
    );
    show_gauge(
        "mimi_shard_led",
        "1 when the shard has a leader that a majority of its voters answers, as far as this node knows; else 0.",
        each(|group| u64::from(group.leader.is_some())),
    );
    show_gauge(
        "mimi_shard_term",
        "The newest term of the shard: one that keeps growing means that leaders do not last.",
        each(|group| group.term),
    );
    show_gauge(
        "mimi_shard_last_entry",
        "Number of the last entry in this node's log of the shard.",
        each(|group| group.last),
    );
    show_gauge(
        "mimi_shard_applied_entry",
        "Number of the last entry of the shard that this node has applied.",
        each(|group| group.applied),
    );
    show_gauge(
        "mimi_shard_lag_entries",
        "Entries in this node's log of the shard that it has not applied.",
        each(|group| group.last.saturating_sub(group.applied)),
    );
}

fn show_log(figures: &Figures) {
    let log = &figures.log;
    show_gauge(
        "mimi_log_bytes",
        "Size on disk of the log that all shards of the node share.",
        [(vec![], log.bytes)],
    );
    show_gauge(
        "mimi_log_limit_bytes",
        "Size of the log at which writes are refused (storage.log_bytes_max).",
        [(vec![], log.bytes_max)],
    );
    show_gauge(
        "mimi_storage_full",
        "1 while nothing new is taken for want of room: the disk is full, or the log has reached its limit; else 0.",
        [(vec![], u64::from(figures.storage_full))],
    );
    show_counter(
        "mimi_log_syncs_total",
        "Times that the log was synced since the start; each covers what all shards had to write.",
        log.syncs,
    );
    show_counter(
        "mimi_log_entries_total",
        "Entries written to the log since the start.",
        log.entries,
    );
}

fn show_certificates(figures: &Figures) {
    let name = "mimi_certificate_expires_seconds";
    describe_gauge!(
        name,
        "Seconds until a certificate of the configuration ends, by its key there; less than 0 when it has."
    );
    for (which, seconds) in &figures.certificates {
        gauge!(name, labels([("which", which)])).set(*seconds as f64);
    }
}

fn show_scrub(scrub: &ScrubFigures) {
    show_counter(
        "mimi_scrub_bytes_total",
        "Bytes at rest (log, snapshots, backlog) that were read to find damage since the start.",
        scrub.bytes,
    );
    show_counter(
        "mimi_scrub_passes_total",
        "Times since the start that everything at rest was gone through.",
        scrub.passes,
    );
    show_counter(
        "mimi_scrub_damaged_total",
        "What was found damaged since the start: any is worth a look at the disk. A snapshot is made anew; damage of \
         the log or the backlog stops the node.",
        scrub.damaged,
    );
}

fn show_links(figures: &Figures) {
    let connected = figures.peers.iter().map(|peer| {
        let up = u64::from(peer.connected);
        (labels([("peer", peer.provider.clone())]), up)
    });
    show_gauge(
        "mimi_link_connected",
        "1 while the connection that this node dials to the peer is up; else 0.",
        connected,
    );
    let each = |figure: fn(&Cursor) -> u64| {
        figures.peers.iter().flat_map(move |peer| {
            let cursors = (0_u16..).zip(&peer.cursors);
            cursors.map(move |(shard, cursor)| {
                let link = [
                    ("peer", peer.provider.clone()),
                    ("shard", shard.to_string()),
                ];
                (labels(link), figure(cursor))
            })
        })
    };
    show_gauge(
        "mimi_link_last_item",
        "Number of the last item that the shard owes to the peer.",
        each(|cursor| cursor.last),
    );
    show_gauge(
        "mimi_link_acked_item",
        "Number of the last item of the shard that the peer has acknowledged.",
        each(|cursor| cursor.acked),
    );
    show_gauge(
        "mimi_link_unacked_items",
        "Items that the shard owes to the peer and the peer has not acknowledged.",
        each(|cursor| cursor.last.saturating_sub(cursor.acked)),
    );
    show_gauge(
        "mimi_link_parked_rooms",
        "Rooms of the shard whose events the peer refused; see `mimi-node peer parked`.",
        each(|cursor| cursor.parked_rooms),
    );
    show_gauge(
        "mimi_link_credit_bytes",
        "Payload bytes of the shard that the peer lets be under way on this node's fan-out lane; zero while none are sent.",
        each(|cursor| cursor.credit_bytes),
    );
    show_gauge(
        "mimi_link_under_way_bytes",
        "Payload bytes of the shard that are under way on it.",
        each(|cursor| cursor.under_way_bytes),
    );
}

fn show_queues(figures: &Figures) {
    let each = |figure: fn((usize, usize)) -> usize| {
        figures.queues.iter().map(move |queue| {
            let mut labels = labels([("queue", queue.name)]);
            labels.extend(queue.shard.map(|shard| label("shard", shard)));
            (labels, figure(queue.depth_and_limit) as u64)
        })
    };
    show_gauge(
        "mimi_queue_depth_items",
        "What waits or is under way: commands in front of a shard's log, checks of the worker pool, requests of users and \
         peers. A node that drains has every place for requests taken.",
        each(|(depth, _)| depth),
    );
    show_gauge(
        "mimi_queue_limit_items",
        "Depth at which the queue refuses what comes next.",
        each(|(_, limit)| limit),
    );
}

/// Shows one counter: what it is called, what it means, its series.
pub(super) fn show_counters(
    name: &'static str,
    help: &'static str,
    series: impl IntoIterator<Item = (Vec<Label>, u64)>,
) {
    describe_counter!(name, help);
    for (labels, value) in series {
        counter!(name, labels).absolute(value);
    }
}

/// Shows one count since the start.
fn show_counter(name: &'static str, help: &'static str, value: u64) {
    describe_counter!(name, help);
    counter!(name).absolute(value);
}

/// Shows one gauge: what it is called, what it means, its series.
pub(super) fn show_gauge(
    name: &'static str,
    help: &'static str,
    series: impl IntoIterator<Item = (Vec<Label>, u64)>,
) {
    describe_gauge!(name, help);
    for (labels, value) in series {
        gauge!(name, labels).set(value as f64);
    }
}

fn label(name: &'static str, value: impl ToString) -> Label {
    Label::new(name, value.to_string())
}

pub(super) fn labels<V: ToString, const N: usize>(pairs: [(&'static str, V); N]) -> Vec<Label> {
    let pairs = pairs.into_iter();
    pairs.map(|(name, value)| label(name, value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        admin::figures::{PeerFigures, QueueFigures},
        admit::BoundFigures,
        node::LogFigures,
        quic::{
            GateFigures,
            places::{self, Bound},
        },
    };
    use std::collections::BTreeSet;

    fn figures() -> Figures {
        let group = |role, leader| GroupFigures {
            role,
            term: 3,
            last: 12,
            applied: 10,
            applied_term: 3,
            leader,
        };
        let bound = Bound {
            each: 1,
            always: 1,
            all: 9,
        };
        let places = |taken, refused| places::Figures {
            taken,
            bound,
            refused,
        };
        let queue = |name, shard, depth_and_limit| QueueFigures {
            name,
            shard,
            depth_and_limit,
        };
        Figures {
            ready: true,
            groups: vec![group(Role::Leader, Some(1)), group(Role::Learner, None)],
            peers: vec![PeerFigures {
                provider: "b.example".to_owned(),
                connected: true,
                cursors: vec![
                    Cursor {
                        last: 9,
                        acked: 4,
                        parked_rooms: 2,
                        ..Cursor::default()
                    },
                    Cursor::default(),
                ],
            }],
            queues: vec![
                queue("shard", Some(0), (5, 8)),
                queue("requests", None, (1, 4)),
            ],
            doors: vec![(
                "clients",
                GateFigures {
                    connections: places(3, 1),
                    handshakes: places(2, 10),
                    retried: 5,
                    too_fast: 100,
                },
            )],
            bounds: vec![
                BoundFigures {
                    name: "strangers",
                    taken: Some(3),
                    refused: 4,
                },
                BoundFigures {
                    name: "wrong_logins",
                    taken: None,
                    refused: 6,
                },
            ],
            log: LogFigures {
                bytes: 1_000,
                bytes_max: 2_000,
                syncs: 7,
                entries: 11,
            },
            storage_full: true,
            scrub: ScrubFigures {
                bytes: 5_000,
                passes: 3,
                damaged: 1,
            },
            certificates: vec![
                ("tls.certificate".to_owned(), 86_400),
                ("peer b.example".to_owned(), -5),
            ],
            actors_awake: 2,
            mls_objections: 6,
            packages_claimed: 7,
            clock_apart_ms: 3_600_000,
            actors_asleep: 1,
        }
    }

    #[test]
    fn every_figure_is_shown_with_its_labels() {
        let text = render(&figures());
        let lines: BTreeSet<&str> = text.lines().collect();
        for line in [
            "mimi_ready 1",
            "mimi_shard_role{shard=\"0\",role=\"leader\"} 1",
            "mimi_shard_role{shard=\"0\",role=\"voter\"} 0",
            "mimi_shard_role{shard=\"1\",role=\"learner\"} 1",
            "mimi_shard_led{shard=\"0\"} 1",
            "mimi_shard_led{shard=\"1\"} 0",
            "mimi_shard_term{shard=\"1\"} 3",
            "mimi_shard_last_entry{shard=\"0\"} 12",
            "mimi_shard_applied_entry{shard=\"0\"} 10",
            "mimi_shard_lag_entries{shard=\"0\"} 2",
            "mimi_log_bytes 1000",
            "mimi_log_limit_bytes 2000",
            "mimi_storage_full 1",
            "# TYPE mimi_log_syncs_total counter",
            "mimi_log_syncs_total 7",
            "mimi_log_entries_total 11",
            "mimi_certificate_expires_seconds{which=\"tls.certificate\"} 86400",
            "mimi_certificate_expires_seconds{which=\"peer b.example\"} -5",
            "mimi_scrub_bytes_total 5000",
            "mimi_scrub_passes_total 3",
            "mimi_scrub_damaged_total 1",
            "mimi_link_connected{peer=\"b.example\"} 1",
            "mimi_link_last_item{peer=\"b.example\",shard=\"0\"} 9",
            "mimi_link_acked_item{peer=\"b.example\",shard=\"0\"} 4",
            "mimi_link_unacked_items{peer=\"b.example\",shard=\"0\"} 5",
            "mimi_link_unacked_items{peer=\"b.example\",shard=\"1\"} 0",
            "mimi_queue_depth_items{queue=\"shard\",shard=\"0\"} 5",
            "mimi_queue_limit_items{queue=\"shard\",shard=\"0\"} 8",
            "mimi_queue_depth_items{queue=\"requests\"} 1",
            "mimi_door_connections{door=\"clients\"} 3",
            "mimi_door_handshakes{door=\"clients\"} 2",
            "mimi_door_retries_total{door=\"clients\"} 5",
            "mimi_door_refused_total{door=\"clients\"} 111",
            "mimi_bound_taken{bound=\"strangers\"} 3",
            "mimi_bound_refused_total{bound=\"strangers\"} 4",
            "mimi_bound_refused_total{bound=\"wrong_logins\"} 6",
            "mimi_actors{state=\"awake\"} 2",
            "mimi_actors{state=\"asleep\"} 1",
        ] {
            assert!(lines.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_series_has_its_help_and_its_type() {
        let text = render(&figures());
        let series = text.lines().filter(|line| line.starts_with("mimi_"));
        let names: BTreeSet<&str> = series
            .map(|line| line.split(['{', ' ']).next().unwrap())
            .collect();
        assert!(names.len() > 15, "{names:?}");
        for name in names {
            for what in ["HELP", "TYPE"] {
                let line = format!("# {what} {name} ");
                assert!(text.contains(&line), "{line} is not in\n{text}");
            }
        }
    }

    #[test]
    fn a_peer_that_is_gone_leaves_nothing_behind() {
        assert!(render(&figures()).contains("b.example"));
        let alone = Figures {
            peers: Vec::new(),
            certificates: Vec::new(),
            ..figures()
        };
        assert!(!render(&alone).contains("b.example"));
    }
}
