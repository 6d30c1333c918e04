//! The system call filter of a node (seccomp(2)). Root in a node works as on a machine of its own, so namespaces, mounts and
//! tracing are allowed; what no learner needs and what has opened holes in kernels is refused (EPERM), and calls newer
//! than this list do not exist (ENOSYS). 32-bit and x32 programs are refused: their calls can't be filtered by argument.

use crate::{Error, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use std::{collections::BTreeMap, io};

/// The newest call that we know (`listxattrat` … of Linux 6.13 are let through as their older forms are).
const NEWEST: u32 = 467;

/// Refused whatever the arguments.
const REFUSED: &[i64] = &[
    // The kernel itself: other kernels, modules, tracing, programs in the kernel.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_syslog,
    // Large, young surfaces with a history, for which every program has another way.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    // Kernel key rings are shared by user id, not by namespace.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Files by handle, past every mount namespace.
    libc::SYS_open_by_handle_at,
    // The machine: clock, swap, accounting, quota, I/O ports.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Kinds of sockets that a node may have; the others are kernel surface without use here (AF_ALG, AF_VSOCK, AF_RXRPC …).
const FAMILIES: [i32; 5] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET];

/// Netlink protocols without use here: that have had holes reachable from user namespaces, or keep messages between programs in memory
/// that is charged to nobody.
const NETLINK_REFUSED: [i32; 3] = [libc::NETLINK_XFRM, libc::NETLINK_CRYPTO, libc::NETLINK_USERSOCK];

/// Commands of ioctl(2) that make or change subvolumes of btrfs, which anybody may who may write to a directory: a node's disk is one,
/// with a quota that others below it would not count for (linux/btrfs.h).
const BTRFS_REFUSED: [u32; 5] = [
    0x5000_9401, // BTRFS_IOC_SNAP_CREATE
    0x5000_940e, // BTRFS_IOC_SUBVOL_CREATE
    0x5000_9417, // BTRFS_IOC_SNAP_CREATE_V2
    0x5000_9418, // BTRFS_IOC_SUBVOL_CREATE_V2
    0x4008_941a, // BTRFS_IOC_SUBVOL_SETFLAGS
];

/// Commands of ioctl(2) that let files share extents (linux/fs.h).
const CLONES: [u32; 3] = [
    0x4004_9409, // FICLONE
    0x4020_940d, // FICLONERANGE
    0xc018_9436, // FIDEDUPERANGE
];

/// The filter, compiled. Do this once, in the warden.
pub fn compile() -> Result<BpfProgram> {
    let failed =
        |e: seccompiler::BackendError| Error::new("compile the system call filter", io::Error::other(e));
    let is = |arg, value: i32| condition(arg, SeccompCmpOp::Eq, value);
    let is_not = |arg, value: i32| condition(arg, SeccompCmpOp::Ne, value);
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, vec![])).collect();
    let mut socket = vec![
        SeccompRule::new(
            FAMILIES
                .map(|f| is_not(0, f))
                .into_iter()
                .collect::<std::result::Result<_, _>>()
                .map_err(failed)?,
        )
        .map_err(failed)?,
    ];
    for protocol in NETLINK_REFUSED {
        let conditions = vec![is(0, libc::AF_NETLINK).map_err(failed)?, is(2, protocol).map_err(failed)?];
        socket.push(SeccompRule::new(conditions).map_err(failed)?);
    }
    rules.insert(libc::SYS_socket, socket);
    let mut ioctl = Vec::new();
    for command in BTRFS_REFUSED {
        ioctl.push(SeccompRule::new(vec![is(1, command.cast_signed()).map_err(failed)?]).map_err(failed)?);
    }
    rules.insert(libc::SYS_ioctl, ioctl);
    let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, arch).map_err(failed)?;
    let mut program: BpfProgram = filter.try_into().map_err(failed)?;
    program.splice(0..0, packet_ring_guard());
    program.splice(0..0, clone_guard());
    program.splice(0..0, newest_guard());
    Ok(program)
}

fn condition(
    arg: u8,
    op: SeccompCmpOp,
    value: i32,
) -> std::result::Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(arg, Dword, op, u64::from(value.cast_unsigned()))
}

/// "No such call" for numbers above [`NEWEST`], which covers those of x32 (bit 30).
fn newest_guard() -> [sock_filter; 3] {
    let op = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    [
        // seccomp_data begins with the number of the call.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 0, 1, NEWEST),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned()),
    ]
}

/// "No such option" for the rings that a packet socket shares with its program (packet(7)): their memory is charged to nobody. Programs
/// such as tcpdump then read packet by packet, as on kernels without them.
fn packet_ring_guard() -> [sock_filter; 8] {
    const RX_RING: u32 = 5;
    const TX_RING: u32 = 13;
    let op = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |value, jt, jf| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, value);
    // Of seccomp_data: the number, and the lower halves of the second and third argument.
    let (number, level, option) = (0, 24, 32);
    [
        load(number),
        equal(libc::SYS_setsockopt as u32, 0, 6),
        load(level),
        equal(libc::SOL_PACKET.cast_unsigned(), 0, 4),
        load(option),
        equal(RX_RING, 1, 0),
        equal(TX_RING, 0, 1),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOPROTOOPT.cast_unsigned()),
    ]
}

/// "Not supported", so that programs copy instead of sharing extents: an extent with a million owners costs the disk of all sessions
/// seconds when it goes.
fn clone_guard() -> [sock_filter; 9] {
    let op = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |value, jt, jf| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, value);
    let answer =
        |errno: i32| op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned());
    // Of seccomp_data: the number, and the lower half of the second argument.
    let (number, command) = (0, 24);
    [
        load(number),
        // It shares extents too, where it can.
        equal(libc::SYS_copy_file_range as u32, 6, 0),
        equal(libc::SYS_ioctl as u32, 0, 6),
        load(command),
        equal(CLONES[0], 2, 0),
        equal(CLONES[1], 1, 0),
        equal(CLONES[2], 0, 2),
        answer(libc::EOPNOTSUPP),
        answer(libc::ENOSYS),
    ]
}

/// A program that has come as numbers.
pub fn program(instructions: &[crate::container::spec::Instruction]) -> BpfProgram {
    instructions.iter().map(|&(code, jt, jf, k)| sock_filter { code, jt, jf, k }).collect()
}

/// Puts this process, and all that it will start, under the filter. Needs `CAP_SYS_ADMIN` in its user namespace
/// (so `no_new_privs` can stay off, and `sudo` and `ping` work in a node as usual).
pub fn install(program: &BpfProgram) -> Result<()> {
    let header = libc::sock_fprog {
        len: u16::try_from(program.len())
            .map_err(|e| Error::new("system call filter", io::Error::other(e)))?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `header` points at `len` instructions that live across the call; the kernel copies and verifies them.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const header) };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::new("install the system call filter", io::Error::last_os_error()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    /// Runs `call` under the filter (needs root) and returns its errno, or 0.
    fn errno_of(call: impl Fn() -> i64) -> i32 {
        let program = compile().unwrap();
        let pid = process::fork(|| {
            install(&program).map_or(99, |()| {
                if call() == -1 { io::Error::last_os_error().raw_os_error().unwrap_or(98) } else { 0 }
            })
        });
        process::wait(pid.unwrap()).unwrap()
    }

    #[test]
    fn refuses_what_a_node_must_not_do_and_lets_the_rest() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let socket = |family: i32, protocol: i32| {
            // SAFETY: plain integers, no memory is touched.
            move || i64::from(unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) })
        };
        assert_eq!(errno_of(socket(libc::AF_ALG, 0)), libc::EPERM);
        assert_eq!(errno_of(socket(libc::AF_VSOCK, 0)), libc::EPERM);
        assert_eq!(errno_of(socket(libc::AF_NETLINK, libc::NETLINK_XFRM)), libc::EPERM);
        assert_eq!(errno_of(socket(libc::AF_NETLINK, libc::NETLINK_USERSOCK)), libc::EPERM);
        assert_eq!(errno_of(socket(libc::AF_NETLINK, libc::NETLINK_ROUTE)), 0);
        // SAFETY: invalid on purpose; the filter answers before the kernel looks at the arguments.
        assert_eq!(errno_of(|| unsafe { libc::syscall(libc::SYS_bpf, 0, 0, 0) }), libc::EPERM);
        // SAFETY: as above.
        assert_eq!(errno_of(|| unsafe { libc::syscall(0x4000_0000 + 39) }), libc::ENOSYS);
        for command in BTRFS_REFUSED {
            // SAFETY: as above.
            let asked = || i64::from(unsafe { libc::ioctl(0, command.into(), 0) });
            assert_eq!(errno_of(asked), libc::EPERM, "{command:x}");
        }
        for command in CLONES {
            // SAFETY: as above.
            let asked = || i64::from(unsafe { libc::ioctl(0, command.into(), 0) });
            assert_eq!(errno_of(asked), libc::EOPNOTSUPP, "{command:x}");
        }
        // SAFETY: as above.
        let asked = || unsafe { libc::syscall(libc::SYS_copy_file_range, -1, 0, -1, 0, 1, 0) };
        assert_eq!(errno_of(asked), libc::ENOSYS);
        // SAFETY: no descriptor; the kernel says so.
        assert_eq!(errno_of(|| i64::from(unsafe { libc::ioctl(-1, libc::FIONREAD, 0) })), libc::EBADF);
        let option = |level: i32, option: i32| {
            // SAFETY: no socket and no value; whoever comes to look at them says so.
            move || i64::from(unsafe { libc::setsockopt(-1, level, option, std::ptr::null(), 0) })
        };
        assert_eq!(errno_of(option(libc::SOL_PACKET, 5)), libc::ENOPROTOOPT);
        assert_eq!(errno_of(option(libc::SOL_PACKET, 13)), libc::ENOPROTOOPT);
        assert_eq!(errno_of(option(libc::SOL_PACKET, 1)), libc::EBADF);
        assert_eq!(errno_of(option(libc::SOL_SOCKET, 5)), libc::EBADF);
        // SAFETY: has no arguments.
        assert_eq!(errno_of(|| unsafe { libc::syscall(libc::SYS_getpid) }.min(0)), 0);
    }
}
