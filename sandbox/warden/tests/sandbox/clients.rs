//! More than one connection of serve: one that was killed or stopped, and the next.

use crate::host::{Host, receive};
use drydock_warden::messages::{Answer, Call, Message, Request};
use libtest_mimic::Trial;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{io::ErrorKind, os::fd::AsFd};

pub fn tests() -> Vec<Trial> {
    vec![
        Trial::test("an_answer_goes_to_who_asked", an_answer_goes_to_who_asked),
        Trial::test("who_does_not_read_stops_nobody", who_does_not_read_stops_nobody),
    ]
}

type Outcome = Result<(), libtest_mimic::Failed>;

/// Every connection counts its own calls, so the number alone says nothing.
fn an_answer_goes_to_who_asked() -> Outcome {
    let host = Host::new();
    let s = host.create(1);
    let other = host.connect();
    let call = Call { number: 2, request: Request::Destroy { id: s.id.clone() } };
    other.send_bytes(&serde_json::to_vec(&call)?, &[])?;
    let event = host.receive().expect("the warden is there");
    assert!(matches!(&event, Message::Died { id, .. } if *id == s.id), "{event:?}");
    let answer = receive(&other).expect("the warden is there");
    assert!(matches!(answer, Message::Answer { number: 2, answer: Answer::Destroyed { .. } }), "{answer:?}");
    Ok(())
}

/// As a serve that was stopped (SIGSTOP) and asks more than it reads.
fn who_does_not_read_stops_nobody() -> Outcome {
    let host = Host::new();
    let silent = host.connect();
    silent.wait_for_nobody(64 << 10)?;
    let call = serde_json::to_vec(&Call { number: 1, request: Request::List })?;
    loop {
        match silent.send_bytes(&call, &[]) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(silent.as_fd(), PollFlags::POLLOUT)];
                let heard = poll(&mut fds, PollTimeout::from(20_000u16))?;
                assert!(heard > 0, "the warden waits for who does not read");
            }
            Err(_hung_up) => break,
        }
    }
    assert_eq!(host.ask(Request::List), Answer::Sessions { sessions: vec![] });
    // It can connect again.
    let again = host.connect();
    again.send_bytes(&call, &[])?;
    assert!(matches!(receive(&again), Some(Message::Answer { number: 1, .. })));
    Ok(())
}
