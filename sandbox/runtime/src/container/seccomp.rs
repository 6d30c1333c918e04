//! Docker's default system call filter for containers (moby, profiles/seccomp), as a list of what it refuses beyond the node's own
//! filter ([`crate::seccomp`]), which stays in force below it.

use super::decision::{Action, Compare, Condition, Decision, NO_SUCH_CALL, Rules};
use crate::{Error, Result, seccomp};
use seccompiler::BpfProgram;
use std::{collections::BTreeMap, io};

/// What the profile allows only to a container with `CAP_SYS_ADMIN`.
const ADMIN: &[i64] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
];

/// What it allows to nobody in a session, because the capability that it asks for is not there.
const REFUSED: &[i64] =
    &[libc::SYS_reboot, libc::SYS_get_mempolicy, libc::SYS_set_mempolicy, libc::SYS_mbind];

/// `CLONE_NEW…` of namespaces(7).
const NEW_NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

/// Values of personality(2) that programs have a use for.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The filters, compiled once for all containers of a node.
#[derive(Debug)]
pub struct Filters {
    plain: BpfProgram,
    admin: BpfProgram,
}

impl Filters {
    /// Compiles them.
    pub fn compile() -> Result<Self> {
        Ok(Self { plain: compile(false)?, admin: compile(true)? })
    }

    /// The filter for the processes of a container, by whether it has `CAP_SYS_ADMIN`.
    pub fn choose(&self, admin: bool) -> &BpfProgram {
        if admin { &self.admin } else { &self.plain }
    }
}

fn compile(admin: bool) -> Result<BpfProgram> {
    let refused = Action::Errno(libc::EPERM as u16);
    let is_of_first =
        |mask: u64, value: u64| Condition { argument: 0, compare: Compare::Masked { mask, value } };
    let mut rules: Vec<(i64, Rules)> = REFUSED.iter().map(|call| (*call, Rules::Always(refused))).collect();
    // The kernel looks at 32 bits.
    let known = PERSONALITIES.map(|value| (vec![is_of_first(0xffff_ffff, value)], Action::Allow));
    let known = known.into_iter().chain([(vec![], refused)]).collect();
    rules.push((libc::SYS_personality, Rules::If(known)));
    if !admin {
        rules.extend(ADMIN.iter().map(|call| (*call, Rules::Always(refused))));
        let none = is_of_first(u64::from(NEW_NAMESPACES.cast_unsigned()), 0);
        rules.push((libc::SYS_clone, Rules::If(vec![(vec![none], Action::Allow), (vec![], refused)])));
        // Its flags lie in memory that a filter can't read: C libraries then use clone.
        rules.push((libc::SYS_clone3, Rules::Always(NO_SUCH_CALL)));
    }
    let by_number = |(call, rules)| u32::try_from(call).ok().map(|call| (call, rules));
    let calls: BTreeMap<u32, Rules> = rules.into_iter().filter_map(by_number).collect();
    let program = Decision { default: Action::Allow, calls, newest: None }.compile();
    let too_large = || Error::new("compile the containers' filter", io::ErrorKind::InvalidData);
    Ok(seccomp::program(&program.ok_or_else(too_large)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    /// Runs `call` under the filter (needs root) and returns its errno, or 0.
    fn errno_of(program: &BpfProgram, call: impl Fn() -> i64) -> i32 {
        let pid = process::fork(|| {
            seccomp::install(program).map_or(99, |()| {
                if call() == -1 { io::Error::last_os_error().raw_os_error().unwrap_or(98) } else { 0 }
            })
        });
        process::wait(pid.unwrap()).unwrap()
    }

    #[test]
    fn containers_make_no_namespaces_unless_they_may_administer() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let filters = Filters::compile().unwrap();
        // SAFETY: unshare touches no memory; the process ends afterwards.
        let unshare = || unsafe { libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUTS) };
        assert_eq!(errno_of(&filters.plain, unshare), libc::EPERM);
        assert_eq!(errno_of(&filters.admin, unshare), 0);
        // SAFETY: fails before anything is cloned.
        let clone = || unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0, 0, 0, 0) };
        assert_eq!(errno_of(&filters.plain, clone), libc::EPERM);
        // SAFETY: a null pointer is refused by the kernel, if it gets that far.
        let clone3 = || unsafe { libc::syscall(libc::SYS_clone3, 0, 0) };
        assert_eq!(errno_of(&filters.plain, clone3), libc::ENOSYS);
        // SAFETY: reads the personality.
        let personality = || unsafe { libc::syscall(libc::SYS_personality, 0xffff_ffff_u64) }.min(0);
        assert_eq!(errno_of(&filters.plain, personality), 0);
    }
}
