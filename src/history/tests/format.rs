//! What is not a history is refused, with its line.

use super::*;

fn refused(text: &[u8]) -> HistoryError {
    verify(text, Terms::default()).unwrap_err()
}

#[test]
fn what_a_recorder_writes_is_read_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("history");
    let recorder = Recorder::create(&path).unwrap();
    let told = Told {
        client: client("alice"),
        room: den(),
        id: id("hi"),
        seq: None,
    };
    let start = Start {
        node: "a1".into(),
        is: NodeState::Repairing,
        alarm: true,
    };
    let events = [Event::Verdict(told), Event::Node(start)];
    for event in &events {
        recorder.record(event.clone()).unwrap();
    }
    let file = std::io::BufReader::new(std::fs::File::open(&path).unwrap());
    let mut lines = Lines::new(file);
    for event in events {
        let (number, line) = lines.next_line().unwrap().unwrap();
        assert_eq!((number, line.event), (line.i + 1, event));
    }
    assert_eq!(lines.next_line().unwrap(), None);
}

#[test]
fn the_example_of_the_documentation_is_a_history() {
    let text = include_str!("../mod.rs");
    let examples = text.lines().filter_map(|line| line.strip_prefix("//! {"));
    let examples: String = examples.map(|line| format!("{{{line}\n")).collect();
    let report = verify(examples.as_bytes(), Terms::default()).unwrap();
    assert_eq!(report.lines, 2);
}

#[test]
fn a_line_that_is_not_in_the_format_is_named() {
    let mut tale = Tale::pair();
    let unknown_field =
        br#"{"i":5,"t_mono_ns":9000000,"event":{"info":{"proc":"x","why":"","y":1}}}"#;
    tale.text.extend(unknown_field);
    tale.text.push(b'\n');
    assert!(matches!(
        refused(&tale.text),
        HistoryError::Syntax { line: 6, .. }
    ));
}

#[test]
fn a_line_without_an_end_is_not_read() {
    let mut tale = Tale::pair();
    tale.text.pop();
    assert!(matches!(refused(&tale.text), HistoryError::Cut { line: 5 }));
}

#[test]
fn a_line_that_never_ends_does_not_fill_the_memory() {
    let endless = std::io::BufReader::new(std::io::repeat(b'x'));
    let error = verify(endless, Terms::default()).unwrap_err();
    assert!(matches!(error, HistoryError::TooLong { line: 1, .. }));
}

#[test]
fn lines_that_cannot_follow_each_other_are_refused() {
    let first = r#"{"i":0,"t_mono_ns":5,"event":{"node":{"node":"a","is":"ready"}}}"#;
    for second in [
        r#"{"i":2,"t_mono_ns":5,"event":{"node":{"node":"a","is":"ready"}}}"#,
        r#"{"i":1,"t_mono_ns":4,"event":{"node":{"node":"a","is":"ready"}}}"#,
        r#"{"i":1,"t_mono_ns":5,"event":{"ok":{"proc":"x","ret":"sent"}}}"#,
        r#"{"i":1,"t_mono_ns":5,"event":{"nemesis":{"what":"kill","target":["a"],"phase":"stop"}}}"#,
    ] {
        let error = refused(format!("{first}\n{second}\n").as_bytes());
        assert!(
            matches!(error, HistoryError::Misplaced { line: 2, .. }),
            "{error}"
        );
    }
    let mut twice = Tale::default();
    twice.sends("alice", &["hi"]);
    twice.sends("alice", &["ho"]);
    assert!(matches!(
        refused(&twice.text),
        HistoryError::Misplaced { line: 2, .. }
    ));
    let mut other = Tale::default();
    other.sends("alice", &["hi"]);
    other.ok("alice", Ret::Created);
    assert!(matches!(
        refused(&other.text),
        HistoryError::Misplaced { line: 2, .. }
    ));
}

#[test]
fn names_have_one_spelling_and_say_whose_they_are() {
    assert_eq!(den().provider(), "a.example");
    assert_eq!(client("alice").provider(), "a.example");
    for odd in [
        "a.example/r/den",
        "mimi://a.example/r/",
        "mimi://a.example/r/Den",
        "mimi://a.example/r/den/x",
        "mimi://a.example/u/alice",
        "mimi:///r/den",
    ] {
        assert!(odd.parse::<RoomUri>().is_err(), "{odd}");
        assert!(odd.parse::<ClientUri>().is_err(), "{odd}");
    }
}
