//! What the doors hold and refuse, as Prometheus reads it.

use super::{
    figures::Figures,
    metrics::{labels, show_counters, show_gauge},
};
use crate::quic::GateFigures;

/// Shows the doors, and the bounds that requests and logins meet there.
pub(super) fn show(figures: &Figures) {
    let doors = |figure: fn(&GateFigures) -> u64| {
        let doors = figures.doors.iter();
        doors.map(move |(door, of)| (labels([("door", *door)]), figure(of)))
    };
    show_gauge(
        "mimi_door_connections",
        "Connections that are up, by door: of clients, peers and the other nodes.",
        doors(|of| of.connections.taken as u64),
    );
    show_gauge(
        "mimi_door_handshakes",
        "Handshakes under way of addresses that are their sender's.",
        doors(|of| of.handshakes.taken as u64),
    );
    show_counters(
        "mimi_door_retries_total",
        "First packets since the start that were told to come again from an address that is their sender's.",
        doors(|of| of.retried),
    );
    show_counters(
        "mimi_door_refused_total",
        "Connections refused since the start, because their address or peer has too many, or comes too fast.",
        doors(|of| of.too_fast + of.handshakes.refused + of.connections.refused),
    );
    let bounds = figures.bounds.iter();
    show_gauge(
        "mimi_bound_taken",
        "What is taken of each bound that BOUNDS.md lists, all who share it together.",
        bounds.filter_map(|of| Some((labels([("bound", of.name)]), of.taken? as u64))),
    );
    show_counters(
        "mimi_bound_refused_total",
        "How often each of these bounds has refused, or made somebody wait, since the start.",
        (figures.bounds.iter()).map(|of| (labels([("bound", of.name)]), of.refused)),
    );
}
