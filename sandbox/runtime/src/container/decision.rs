//! What becomes of each system call, as a program of the kernel's filters (seccomp(2)). The number of a call is looked for by halves, since
//! the kernel runs the program once for every number when a process gets it, to note which calls need no look at all.

use super::spec::Instruction;
use std::collections::BTreeMap;

/// More instructions the kernel does not take (`BPF_MAXINSNS`).
const MOST: usize = 4096;
/// How a call is answered that does not exist.
pub(super) const NO_SUCH_CALL: Action = Action::Errno(libc::ENOSYS as u16);

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Allow,
    /// It is made, and noted by the kernel.
    Log,
    /// A tracer decides; without one there is no such call.
    Trace(u16),
    /// It fails with this number.
    Errno(u16),
    /// The thread gets SIGSYS.
    Trap,
    /// The thread ends.
    KillThread,
    /// The process ends.
    KillProcess,
}

/// Something about an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0 to 5.
    pub argument: u8,
    /// What is to hold of it.
    pub compare: Compare,
}

/// Comparisons of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// It is not this.
    Ne(u64),
    /// It is less.
    Lt(u64),
    /// It is less, or this.
    Le(u64),
    /// It is this.
    Eq(u64),
    /// It is this, or more.
    Ge(u64),
    /// It is more.
    Gt(u64),
    /// Its bits below the mask are this.
    Masked {
        /// The bits that count.
        mask: u64,
        /// What they are.
        value: u64,
    },
}

/// What is said of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rules {
    /// The same in any case.
    Always(Action),
    /// The first of these whose conditions all hold.
    If(Vec<(Vec<Condition>, Action)>),
}

/// What is said of all calls.
#[derive(Debug)]
pub(super) struct Decision {
    /// Of those that are not named.
    pub default: Action,
    /// By number.
    pub calls: BTreeMap<u32, Rules>,
    /// Calls with a larger number do not exist; no call that is named has one.
    pub newest: Option<u32>,
}

/// Calls from a number up to the next range's, of all of which the same is said.
#[derive(Debug)]
struct Range<'a> {
    first: u32,
    said: Said<'a>,
}

/// See [`Rules`].
#[derive(Debug, PartialEq, Eq)]
enum Said<'a> {
    Always(Action),
    If(&'a [(Vec<Condition>, Action)]),
}

impl Decision {
    /// As a program; nothing if it is larger than the kernel takes. Calls for another kind of machine end the process.
    pub(super) fn compile(&self) -> Option<Vec<Instruction>> {
        let mut program =
            vec![load(ARCH), jump(JEQ, AUDIT_ARCH, 1, 0), answer(Action::KillProcess), load(NUMBER)];
        program.extend(self.search(&self.ranges()));
        (program.len() <= MOST).then_some(program)
    }

    /// All numbers, in as few ranges as there can be.
    fn ranges<'a>(&'a self) -> Vec<Range<'a>> {
        let mut ranges: Vec<Range<'a>> = Vec::new();
        let mut add = |first: u32, said: Said<'a>| {
            let same = ranges.last().is_some_and(|last| last.said == said);
            if !same || matches!(said, Said::If(_)) {
                ranges.push(Range { first, said });
            }
        };
        let mut next = 0;
        for (call, rules) in &self.calls {
            if *call > next {
                add(next, Said::Always(self.default));
            }
            add(
                *call,
                match rules {
                    Rules::Always(action) => Said::Always(*action),
                    Rules::If(some) => Said::If(some),
                },
            );
            next = call + 1;
        }
        if self.newest.is_none_or(|newest| next <= newest) {
            add(next, Said::Always(self.default));
        }
        if let Some(newest) = self.newest {
            add(newest + 1, Said::Always(NO_SUCH_CALL));
        }
        ranges
    }

    /// With the number of the call in hand: goes to its range, and answers.
    fn search(&self, ranges: &[Range<'_>]) -> Vec<Instruction> {
        let (below, above) = ranges.split_at(ranges.len() / 2);
        let (false, Some(first)) = (below.is_empty(), above.first()) else {
            return ranges.first().map_or_else(Vec::new, |range| self.answers(&range.said));
        };
        let below = self.search(below);
        let mut program = match u8::try_from(below.len()) {
            Ok(length) => vec![jump(JGE, first.first, length, 0)],
            // A jump with a condition goes no further.
            Err(_) => {
                let length = u32::try_from(below.len()).unwrap_or(u32::MAX);
                vec![jump(JGE, first.first, 0, 1), (JA, 0, 0, length)]
            }
        };
        program.extend(below);
        program.extend(self.search(above));
        program
    }

    fn answers(&self, said: &Said<'_>) -> Vec<Instruction> {
        let some = match said {
            Said::Always(action) => return vec![answer(*action)],
            Said::If(some) => some,
        };
        let mut program = Vec::new();
        for (conditions, action) in *some {
            let mut rest = vec![answer(*action)];
            for condition in conditions.iter().rev() {
                let mut tests = test(*condition, rest.len());
                tests.append(&mut rest);
                rest = tests;
            }
            program.append(&mut rest);
            if conditions.is_empty() {
                return program;
            }
        }
        program.push(answer(self.default));
        program
    }
}

/// A test that goes on after itself if it holds, and else passes over `rest` more instructions.
fn test(condition: Condition, rest: usize) -> Vec<Instruction> {
    // At most six tests of six instructions and an answer.
    let no = u8::try_from(rest).unwrap_or(u8::MAX);
    // Of seccomp_data: the arguments, 64 bits each.
    let low = 16 + 8 * u32::from(condition.argument);
    let (low, high) = if cfg!(target_endian = "little") { (low, low + 4) } else { (low + 4, low) };
    let split = |value: u64| ((value >> 32) as u32, value as u32);
    match condition.compare {
        Compare::Eq(value) => {
            let (h, l) = split(value);
            vec![load(high), jump(JEQ, h, 0, no + 2), load(low), jump(JEQ, l, 0, no)]
        }
        Compare::Ne(value) => {
            let (h, l) = split(value);
            vec![load(high), jump(JEQ, h, 0, 2), load(low), jump(JEQ, l, no, 0)]
        }
        Compare::Gt(value) | Compare::Ge(value) => {
            let (h, l) = split(value);
            let last = if matches!(condition.compare, Compare::Gt(_)) { JGT } else { JGE };
            vec![load(high), jump(JGT, h, 3, 0), jump(JEQ, h, 0, no + 2), load(low), jump(last, l, 0, no)]
        }
        Compare::Lt(value) | Compare::Le(value) => {
            let (h, l) = split(value);
            let last = if matches!(condition.compare, Compare::Lt(_)) { JGE } else { JGT };
            vec![load(high), jump(JGT, h, no + 3, 0), jump(JEQ, h, 0, 2), load(low), jump(last, l, no, 0)]
        }
        Compare::Masked { mask, value } => {
            let ((mh, ml), (h, l)) = (split(mask), split(value & mask));
            vec![
                load(high),
                (AND, 0, 0, mh),
                jump(JEQ, h, 0, no + 3),
                load(low),
                (AND, 0, 0, ml),
                jump(JEQ, l, 0, no),
            ]
        }
    }
}

/// Of seccomp_data: the number of the call, and the kind of machine that it is made for.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

const JEQ: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const JGT: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const JGE: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JA: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn load(offset: u32) -> Instruction {
    (LOAD, 0, 0, offset)
}

fn jump(code: u16, value: u32, yes: u8, no: u8) -> Instruction {
    (code, yes, no, value)
}

fn answer(action: Action) -> Instruction {
    let value = match action {
        Action::Allow => libc::SECCOMP_RET_ALLOW,
        Action::Log => libc::SECCOMP_RET_LOG,
        Action::Trace(data) => libc::SECCOMP_RET_TRACE | u32::from(data),
        Action::Errno(errno) => libc::SECCOMP_RET_ERRNO | u32::from(errno),
        Action::Trap => libc::SECCOMP_RET_TRAP,
        Action::KillThread => libc::SECCOMP_RET_KILL_THREAD,
        Action::KillProcess => libc::SECCOMP_RET_KILL_PROCESS,
    };
    (RETURN, 0, 0, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer to a call of this number, and in how many steps (socket filter's machine, bpf(2)).
    fn run(program: &[Instruction], number: u32) -> (u32, usize) {
        let (mut at, mut register, mut steps) = (0, 0, 0);
        loop {
            let (code, yes, no, value) = program[at];
            steps += 1;
            at += 1;
            let holds = match code {
                LOAD if value == ARCH => return_into(&mut register, AUDIT_ARCH),
                LOAD if value == NUMBER => return_into(&mut register, number),
                // Arguments are zero.
                LOAD => return_into(&mut register, 0),
                JA => {
                    at += value as usize;
                    continue;
                }
                RETURN => return (value, steps),
                JEQ => Some(register == value),
                JGT => Some(register > value),
                JGE => Some(register >= value),
                other => panic!("{other}"),
            };
            if let Some(holds) = holds {
                at += usize::from(if holds { yes } else { no });
            }
        }
    }

    fn return_into(register: &mut u32, value: u32) -> Option<bool> {
        *register = value;
        None
    }

    #[test]
    fn every_number_is_answered_as_it_is_decided_in_few_steps() {
        let refused = |n: u32| Action::Errno(u16::try_from(1 + n % 3).unwrap());
        let zero = Condition { argument: 0, compare: Compare::Eq(0) };
        let mut calls: BTreeMap<u32, Rules> =
            (0..400).filter(|n| n % 7 < 3).map(|n| (n, Rules::Always(refused(n)))).collect();
        calls.insert(5, Rules::If(vec![(vec![zero], Action::Trap)]));
        calls.insert(6, Rules::If(vec![(vec![], Action::Log)]));
        for (default, newest) in
            [(Action::Allow, None), (Action::Allow, Some(401)), (Action::Errno(9), Some(399))]
        {
            let decision = Decision { default, calls: calls.clone(), newest };
            let program = decision.compile().unwrap();
            for number in (0..500).chain([0x4000_0000, u32::MAX]) {
                let expected = match calls.get(&number) {
                    _ if newest.is_some_and(|newest| number > newest) => NO_SUCH_CALL,
                    None => default,
                    Some(Rules::Always(action)) => *action,
                    Some(Rules::If(some)) => some[0].1,
                };
                let (answered, steps) = run(&program, number);
                assert_eq!(answered, answer(expected).3, "{number} {default:?} {newest:?}");
                assert!(steps < 20, "{number}: {steps}");
            }
        }
    }
}
