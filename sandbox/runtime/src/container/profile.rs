//! The system call filter of a container that brings its own profile (`docker run --security-opt seccomp=FILE`), made as runc and
//! libseccomp make it. The engine compiles; the kernel checks the program when the container's child installs it. It comes on top of
//! the node's own filter ([`crate::seccomp`]) and can allow nothing that this refuses, since the strictest answer counts.

pub use super::decision::{Action, Compare, Condition};
use super::{
    decision::{Decision, NO_SUCH_CALL, Rules},
    spec::Instruction,
};
use std::collections::BTreeMap;
use syscalls::Sysno;

/// Which calls are answered how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Of all that no rule names.
    pub default: Action,
    /// The rules.
    pub rules: Vec<Rule>,
}

/// How one call is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name. One that this machine does not have is passed over.
    pub call: String,
    /// What becomes of it,
    pub action: Action,
    /// if all these hold.
    pub conditions: Vec<Condition>,
}

/// The profile as a program for the kernel; nothing if it is larger than the kernel takes.
pub fn compile(profile: &Profile) -> Option<Vec<Instruction>> {
    let newest = profile.rules.iter().filter_map(|rule| number(&rule.call)).max();
    // A call that is younger than the profile is one that does not exist: programs then take an older one.
    let newest = newest.filter(|_| says_no(profile.default));
    Decision { default: profile.default, calls: by_call(profile), newest }.compile()
}

/// Rules by numbers of calls. A rule without conditions outweighs all others of its call, as in libseccomp.
fn by_call(profile: &Profile) -> BTreeMap<u32, Rules> {
    let mut calls: BTreeMap<u32, Rules> = BTreeMap::new();
    for rule in profile.rules.iter().filter(|rule| rule.action != profile.default) {
        let Some(call) = number(&rule.call) else { continue };
        let entry = calls.entry(call).or_insert_with(|| Rules::If(vec![]));
        let Rules::If(some) = entry else { continue };
        if rule.conditions.is_empty() {
            *entry = Rules::Always(rule.action);
            continue;
        }
        let twice = |c: &Condition| rule.conditions.iter().filter(|d| d.argument == c.argument).count() > 1;
        if rule.conditions.iter().any(twice) {
            // As runc: conditions of the same argument are alternatives.
            some.extend(rule.conditions.iter().map(|condition| (vec![*condition], rule.action)));
        } else {
            some.push((rule.conditions.clone(), rule.action));
        }
    }
    calls
}

fn number(call: &str) -> Option<u32> {
    call.parse::<Sysno>().ok().and_then(|number| u32::try_from(number.id()).ok())
}

/// Whether what is not named is refused in a way that programs do not take for "no such call".
fn says_no(default: Action) -> bool {
    !matches!(default, Action::Allow | Action::Log | Action::Trace(_)) && default != NO_SUCH_CALL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{process, seccomp};
    use std::io;

    fn rule(call: &str, action: Action, conditions: &[(u8, Compare)]) -> Rule {
        let conditions =
            conditions.iter().map(|(argument, compare)| Condition { argument: *argument, compare: *compare });
        Rule { call: call.into(), action, conditions: conditions.collect() }
    }

    /// Runs `call` under the profile (needs root) and returns its errno, or 0.
    fn errno_of(default: Action, rules: &[Rule], call: impl Fn() -> i64) -> i32 {
        let program = compile(&Profile { default, rules: rules.to_vec() }).unwrap();
        let program = seccomp::program(&program);
        let pid = process::fork(|| {
            seccomp::install(&program).map_or(99, |()| {
                if call() == -1 { io::Error::last_os_error().raw_os_error().unwrap_or(98) } else { 0 }
            })
        });
        process::wait(pid.unwrap()).unwrap()
    }

    #[test]
    fn the_kernel_answers_as_the_profile_says() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        // SAFETY: touches no memory.
        let getppid = || unsafe { libc::syscall(libc::SYS_getppid) };
        // SAFETY: as above.
        let getsid = || unsafe { libc::syscall(libc::SYS_getsid, 0) };
        let refuse = [rule("getppid", Action::Errno(7), &[]), rule("no_such_call", Action::Errno(8), &[])];
        assert_eq!(errno_of(Action::Allow, &refuse, getppid), 7);
        assert_eq!(errno_of(Action::Allow, &refuse, getsid), 0);
        let allow = ["exit_group", "exit", "getppid", "sigaltstack", "munmap"];
        let mut allow: Vec<_> = allow.map(|call| rule(call, Action::Allow, &[])).to_vec();
        assert_eq!(errno_of(Action::Errno(1), &allow, getppid), 0);
        assert_eq!(errno_of(Action::Errno(1), &allow, getsid), 1);
        // What is younger than all that a profile names does not exist.
        // SAFETY: null pointers and no descriptors.
        let young = || unsafe { libc::syscall(libc::SYS_faccessat2, -1, 0, 0, 0) };
        assert_eq!(errno_of(Action::Errno(1), &allow, young), libc::ENOSYS);
        allow.push(rule("cachestat", Action::Allow, &[]));
        assert_eq!(errno_of(Action::Errno(1), &allow, young), 1);
        assert_eq!(errno_of(Action::Allow, &[rule("getppid", Action::KillProcess, &[])], getppid), 128 + 31);
    }

    #[test]
    fn arguments_are_compared_in_all_their_bits() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let (big, refused) = (5_u64 << 32 | 9, Action::Errno(7));
        // No call looks at the sixth argument of getppid.
        let with = |value: u64| {
            // SAFETY: touches no memory.
            move || unsafe { libc::syscall(libc::SYS_getppid, 0, 0, 0, 0, 0, value) }
        };
        let cases: [(Compare, &[u64], &[u64]); 8] = [
            (Compare::Eq(big), &[big], &[9, big + 1, 6 << 32 | 9]),
            (Compare::Ne(big), &[9, big + 1, 6 << 32 | 9], &[big]),
            (Compare::Lt(big), &[0, 9, 10, big - 1, 4 << 32 | 20], &[big, big + 1, 6 << 32]),
            (Compare::Le(big), &[0, 10, big, 4 << 32 | 20], &[big + 1, 6 << 32]),
            (Compare::Gt(big), &[big + 1, 6 << 32], &[0, 10, big, 4 << 32 | 20]),
            (Compare::Ge(big), &[big, big + 1, 6 << 32], &[0, 10, big - 1, 4 << 32 | 20]),
            (
                Compare::Masked { mask: 1 << 32 | 2, value: 1 << 32 },
                &[1 << 32, 3 << 32 | 1],
                &[2, 1 << 32 | 2],
            ),
            (Compare::Masked { mask: 6, value: 7 }, &[6, 7, 15], &[1, 2, 4]),
        ];
        for (compare, holds, fails) in cases {
            for (values, errno) in [(holds, 7), (fails, 0)] {
                for value in values {
                    let rules = [
                        rule("getppid", refused, &[(0, Compare::Eq(1)), (5, compare)]),
                        rule("getppid", refused, &[(0, Compare::Eq(0)), (5, compare), (1, Compare::Lt(1))]),
                    ];
                    assert_eq!(errno_of(Action::Allow, &rules, with(*value)), errno, "{compare:?} {value:x}");
                }
            }
        }
    }

    #[test]
    fn two_conditions_of_one_argument_are_alternatives_and_a_bare_rule_outweighs_them() {
        let conditions = [(0, Compare::Eq(1)), (0, Compare::Eq(2))];
        let mut profile =
            Profile { default: Action::Errno(1), rules: vec![rule("getppid", Action::Allow, &conditions)] };
        let Some(Rules::If(some)) = by_call(&profile).into_values().next() else { panic!("conditions") };
        assert_eq!(some.len(), 2);
        profile.rules.push(rule("getppid", Action::Log, &[]));
        profile.rules.push(rule("getppid", Action::Allow, &conditions));
        assert!(matches!(by_call(&profile).into_values().next(), Some(Rules::Always(Action::Log))));
    }

    #[test]
    fn calls_beside_each_other_are_one_range() {
        let rules = ["read", "write", "close"].map(|call| rule(call, Action::Allow, &[]));
        let apart = ["read", "mmap", "brk"].map(|call| rule(call, Action::Allow, &[]));
        let length = |rules: &[Rule]| {
            compile(&Profile { default: Action::Trap, rules: rules.to_vec() }).unwrap().len()
        };
        assert!(length(&rules) < length(&apart));
        let many = vec![rule("read", Action::Allow, &[(0, Compare::Eq(1))]); 2000];
        assert_eq!(compile(&Profile { default: Action::Trap, rules: many }), None);
    }
}
