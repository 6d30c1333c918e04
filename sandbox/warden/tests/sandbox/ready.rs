//! The session that is kept ready: it becomes that of who asks for it, and nobody sees it before or has it left over.

use crate::{
    host::{self, Host, small},
    leaks::{after_one_session, comes_back_to},
};
use drydock_runtime::limits::Limits;
use drydock_warden::messages::{Answer, FailureKind, Message, Request};
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    vec![
        Trial::test("a_session_that_is_ready_is_given_to_who_asks_for_it", given),
        Trial::test("a_session_that_is_ready_is_given_to_nobody_who_asks_for_another", of_other_limits),
        Trial::test("nothing_is_left_of_a_session_that_nobody_asked_for", unasked),
        Trial::test("a_session_that_is_ready_may_die", dies),
    ]
}

/// The names of the steps of a making.
fn steps(answer: Answer) -> Vec<String> {
    let Answer::Created { trace } = answer else { panic!("{answer:?}") };
    trace.into_iter().map(|step| step.name).collect()
}

fn is_launch(step: &String) -> bool {
    step == "clone namespaces"
}

fn given() -> Result<(), libtest_mimic::Failed> {
    let host = Host::new();
    let id = host.ready(small());
    assert_eq!(host.ask(Request::List), Answer::Sessions { sessions: vec![] });
    let made = steps(host.try_create_as(&id, 2, small()));
    assert!(!made.iter().any(is_launch), "{made:?}");
    let s = host::Session { host: &host, id };
    assert_eq!(s.run(2, "hostname; cat /sys/class/net/eth0/address"), "node2\n02:00:00:00:01:02");
    s.run(1, "ping -c1 -W5 node2 || ping -c1 -W5 192.168.0.12");
    // It is a session like others, also for the next warden.
    host.restart();
    assert_eq!(host.ask(Request::List), Answer::Sessions { sessions: vec![s.id.clone()] });
    assert_eq!(host.ask(Request::AddNode { id: s.id.clone(), node: host::node(3) }), Answer::Done);
    assert_eq!(s.run(3, "hostname"), "node3");
    Ok(())
}

fn of_other_limits() -> Result<(), libtest_mimic::Failed> {
    let host = Host::new();
    let ready = host.ready(small());
    let other = host.try_create_as(&ready, 1, Limits { pids: 77, ..small() });
    assert!(matches!(other, Answer::Failed { kind: FailureKind::InUse, .. }), "{other:?}");
    // Another's is made anew, and the one that is ready waits on.
    let (another, answer) = host.try_create(1, small());
    assert!(steps(answer).iter().any(is_launch));
    assert!(!steps(host.try_create_as(&ready, 1, small())).iter().any(is_launch));
    let mut all = vec![another, ready];
    all.sort();
    assert_eq!(host.ask(Request::List), Answer::Sessions { sessions: all });
    Ok(())
}

fn unasked() -> Result<(), libtest_mimic::Failed> {
    let host = Host::new();
    let before = after_one_session(&host);
    host.ready(small());
    // The warden is killed.
    host.restart();
    comes_back_to(&host, &before);
    // Another is wanted, and another connection stays.
    host.ready(small());
    host.ready(small());
    host.ask(Request::Exit);
    comes_back_to(&host, &before);
    // The connection ends: `Host` looks how the warden does.
    host.ready(small());
    Ok(())
}

fn dies() -> Result<(), libtest_mimic::Failed> {
    let host = Host::new();
    let before = after_one_session(&host);
    let id = host.ready(small());
    let s = host::Session { host: &host, id: id.clone() };
    s.kill();
    comes_back_to(&host, &before);
    // serve is told, and gives out another id.
    assert!(matches!(host.receive(), Some(Message::Died { id: died, .. }) if died == id));
    assert_eq!(host.create(1).run(1, "hostname"), "node1");
    Ok(())
}
