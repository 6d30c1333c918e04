//! Docker's default system call filter for containers (moby, profiles/seccomp), as a list of what it refuses beyond the node's own
//! filter ([`crate::seccomp`]), which stays in force below it.

use crate::{Error, Result};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};
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
const NEW_NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWCGROUP,
];

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
        let failed = |e: BackendError| Error::new("compile the containers' filter", io::Error::other(e));
        Ok(Self { plain: compile(false).map_err(failed)?, admin: compile(true).map_err(failed)? })
    }

    /// The filter for the processes of a container, by whether it has `CAP_SYS_ADMIN`.
    pub fn choose(&self, admin: bool) -> &BpfProgram {
        if admin { &self.admin } else { &self.plain }
    }
}

fn compile(admin: bool) -> std::result::Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in REFUSED {
        rules.insert(*call, vec![]);
    }
    let unknown: Vec<_> = PERSONALITIES
        .into_iter()
        .map(|value| SeccompCondition::new(0, Dword, SeccompCmpOp::Ne, value))
        .collect::<std::result::Result<_, _>>()?;
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(unknown)?]);
    if !admin {
        rules.extend(ADMIN.iter().map(|call| (*call, vec![])));
        let flags = NEW_NAMESPACES.map(|flag| u64::from(flag.cast_unsigned()));
        let clone = flags
            .into_iter()
            .map(|flag| {
                let has = SeccompCondition::new(0, Dword, SeccompCmpOp::MaskedEq(flag), flag)?;
                SeccompRule::new(vec![has])
            })
            .collect::<std::result::Result<_, _>>()?;
        rules.insert(libc::SYS_clone, clone);
    }
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch)?;
    let mut program: BpfProgram = filter.try_into()?;
    if !admin {
        program.splice(0..0, no_clone3());
    }
    Ok(program)
}

/// "No such call" for clone3, whose flags lie in memory that a filter can't read: C libraries then use clone.
fn no_clone3() -> [sock_filter; 3] {
    let op = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, clone3),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{process, seccomp};

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
