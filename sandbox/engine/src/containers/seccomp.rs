//! `--security-opt seccomp=…`: from Docker's profiles (moby/profiles, `seccomp`) to what the container's child installs. The client has
//! read the file; what comes is its JSON. Read when a container starts, as dockerd does, since what a rule holds for depends on the
//! container's capabilities; what is wrong with it is said in the words of dockerd, or of runc.

mod decode;

use super::{
    failures::{RUNC_INIT, refused_by_runc},
    model::HostConfig,
    spec::capabilities,
};
use crate::{
    config::DaemonConfig,
    error::{Error, Result},
};
use decode::{Argument, Conditions, Seccomp};
use drydock_runtime::container::{
    profile::{self, Action, Compare, Condition, Profile, Rule},
    spec::Filter,
};

/// What profiles call this machine, and what `includes` and `excludes` call it.
const ARCH: (&str, &str) = if cfg!(target_arch = "aarch64") {
    ("SCMP_ARCH_AARCH64", "arm64")
} else {
    ("SCMP_ARCH_X86_64", "amd64")
};

/// The filter of a container's processes.
pub fn filter(host: &HostConfig, config: &DaemonConfig) -> Result<Filter> {
    let mut asked = host.security_opt.iter().flatten().filter_map(|option| {
        let (key, value) = option.split_once('=').or_else(|| option.split_once(':'))?;
        (key == "seccomp").then_some(value)
    });
    let engines = config.seccomp_profile.as_str();
    match (asked.next_back().unwrap_or_default(), engines) {
        ("unconfined", _) => Ok(Filter::Off),
        ("", _) if host.privileged => Ok(Filter::Off),
        ("builtin", _) | ("", "" | "builtin") => {
            let held = capabilities(host, host.privileged);
            Ok(Filter::Default { admin: held.iter().any(|name| name == "SYS_ADMIN") })
        }
        ("", "unconfined") => Ok(Filter::Off),
        ("", _) => load(&config.seccomp_text, host),
        (text, _) => load(text, host),
    }
}

fn load(text: &str, host: &HostConfig) -> Result<Filter> {
    let seccomp = Seccomp::decode(text)
        .map_err(|why| Error::internal(format!("Decoding seccomp profile failed: {why}")))?;
    if seccomp.default_action.is_empty() && seccomp.syscalls.is_empty() {
        return Ok(Filter::Off);
    }
    let held: Vec<String> =
        capabilities(host, host.privileged).iter().map(|name| format!("CAP_{name}")).collect();
    let profile = resolve(seccomp, &held, kernel())?;
    let program = profile::compile(&profile).ok_or_else(|| {
        let why = "error loading seccomp filter into kernel: error loading seccomp filter: invalid argument";
        refused_by_runc(&format!("{RUNC_INIT}{why}"))
    })?;
    Ok(Filter::Program(program))
}

/// The rules that hold for a container with these capabilities on a kernel of this version.
fn resolve(seccomp: Seccomp, held: &[String], kernel: (u64, u64)) -> Result<Profile> {
    if !seccomp.architectures.is_empty() && !seccomp.arch_map.is_empty() {
        return Err(Error::internal(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
        ));
    }
    let own = seccomp.arch_map.into_iter().find(|(arch, _)| arch == ARCH.0);
    let below = own.into_iter().flat_map(|(_, below)| below);
    let mut calls = vec![];
    for mut call in seccomp.syscalls {
        if !call.name.is_empty() {
            if !call.names.is_empty() {
                return Err(Error::internal(
                    "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
                ));
            }
            call.names = vec![std::mem::take(&mut call.name)];
        }
        let excluded = call.excludes.as_ref().is_some_and(|excludes| excludes.any(held, kernel));
        if !excluded && call.includes.as_ref().is_none_or(|includes| includes.all(held, kernel)) {
            calls.push(call);
        }
    }
    // From here on it is runc that reads.
    if let Some(flag) = seccomp.flags.iter().find(|flag| !FLAGS.contains(&flag.as_str())) {
        return Err(refused_by_runc(&format!("seccomp flag {flag} is not known to runc")));
    }
    if let Some(arch) = seccomp.architectures.into_iter().chain(below).find(|arch| !is_arch(arch)) {
        return Err(refused_by_runc(&format!("string {arch} is not a valid arch for seccomp")));
    }
    let default = action(&seccomp.default_action, seccomp.default_errno)?;
    let mut rules = vec![];
    for call in calls {
        let action = action(&call.action, call.errno)?;
        let conditions = call.args.iter().map(condition).collect::<Result<Vec<_>>>()?;
        rules.extend(call.names.into_iter().map(|call| Rule {
            call,
            action,
            conditions: conditions.clone(),
        }));
    }
    if rules.iter().any(|rule| rule.call.is_empty()) {
        return Err(refused_by_runc(&format!("{RUNC_INIT}empty string is not a valid syscall")));
    }
    Ok(Profile { default, rules })
}

const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

fn is_arch(text: &str) -> bool {
    const KNOWN: &str = "X86 X86_64 X32 ARM AARCH64 MIPS MIPS64 MIPS64N32 MIPSEL MIPSEL64 MIPSEL64N32 PPC PPC64 PPC64LE \
         RISCV64 S390 S390X LOONGARCH64";
    text.strip_prefix("SCMP_ARCH_").is_some_and(|name| KNOWN.split_whitespace().any(|known| known == name))
}

fn action(text: &str, errno: Option<u64>) -> Result<Action> {
    // As runc: the lower bits of what is given, or EPERM.
    let errno = errno.map_or(1, |errno| errno as u16);
    Ok(match text {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(errno),
        "SCMP_ACT_TRACE" => Action::Trace(errno),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_NOTIFY" => {
            return Err(refused_by_runc(&format!("{RUNC_INIT}seccomp listenerPath is not set")));
        }
        other => {
            return Err(refused_by_runc(&format!("string {other} is not a valid action for seccomp")));
        }
    })
}

fn condition(given: &Argument) -> Result<Condition> {
    let value = given.value;
    let compare = match given.op.as_str() {
        "SCMP_CMP_NE" => Compare::Ne(value),
        "SCMP_CMP_LT" => Compare::Lt(value),
        "SCMP_CMP_LE" => Compare::Le(value),
        "SCMP_CMP_EQ" => Compare::Eq(value),
        "SCMP_CMP_GE" => Compare::Ge(value),
        "SCMP_CMP_GT" => Compare::Gt(value),
        "SCMP_CMP_MASKED_EQ" => Compare::Masked { mask: value, value: given.value_two },
        other => {
            return Err(refused_by_runc(&format!("string {other} is not a valid operator for seccomp")));
        }
    };
    let argument = u8::try_from(given.index).ok().filter(|index| *index < 6).ok_or_else(|| {
        let why = format!("syscalls only have up to 6 arguments (0 - 5), {} given", given.index);
        refused_by_runc(&format!("{RUNC_INIT}error creating seccomp syscall condition: {why}"))
    })?;
    Ok(Condition { argument, compare })
}

impl Conditions {
    /// Of `excludes`: one that holds is enough.
    fn any(&self, held: &[String], kernel: (u64, u64)) -> bool {
        self.arches.iter().any(|arch| arch == ARCH.1)
            || self.caps.iter().any(|cap| held.contains(cap))
            || self.min_kernel.is_some_and(|least| kernel >= least)
    }

    /// Of `includes`: all must hold.
    fn all(&self, held: &[String], kernel: (u64, u64)) -> bool {
        (self.arches.is_empty() || self.arches.iter().any(|arch| arch == ARCH.1))
            && self.caps.iter().all(|cap| held.contains(cap))
            && self.min_kernel.is_none_or(|least| kernel >= least)
    }
}

fn kernel() -> (u64, u64) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut parts = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(option: &str) -> HostConfig {
        HostConfig { security_opt: Some(vec![option.into()]), ..HostConfig::default() }
    }

    fn refusal(profile: &str) -> String {
        filter(&with(&format!("seccomp={profile}")), &DaemonConfig::default()).unwrap_err().message
    }

    fn rules(profile: &str, held: &[&str]) -> Vec<String> {
        let held: Vec<String> = held.iter().map(|cap| format!("CAP_{cap}")).collect();
        let profile = resolve(Seccomp::decode(profile).unwrap(), &held, (6, 1)).unwrap();
        profile.rules.into_iter().map(|rule| rule.call).collect()
    }

    #[test]
    fn a_profile_is_chosen_by_container_and_engine() {
        let config = DaemonConfig::default();
        assert_eq!(filter(&HostConfig::default(), &config), Ok(Filter::Default { admin: false }));
        assert_eq!(filter(&with("seccomp=unconfined"), &config), Ok(Filter::Off));
        assert_eq!(filter(&with("seccomp:unconfined"), &config), Ok(Filter::Off));
        assert_eq!(filter(&with("seccomp={}"), &config), Ok(Filter::Off));
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#;
        let with_profile = HostConfig { privileged: true, ..with(&format!("seccomp={profile}")) };
        assert!(matches!(filter(&with_profile, &config), Ok(Filter::Program(_))));
        let mut engines = config.clone();
        engines.seccomp_profile = "unconfined".into();
        assert_eq!(filter(&HostConfig::default(), &engines), Ok(Filter::Off));
        assert_eq!(filter(&with("seccomp=builtin"), &engines), Ok(Filter::Default { admin: false }));
        (engines.seccomp_profile, engines.seccomp_text) = ("/p.json".into(), profile.into());
        assert!(matches!(filter(&HostConfig::default(), &engines), Ok(Filter::Program(_))));
        let privileged = HostConfig { privileged: true, ..HostConfig::default() };
        assert_eq!(filter(&privileged, &engines), Ok(Filter::Off));
        let admin = HostConfig { cap_add: Some(vec!["SYS_ADMIN".into()]), ..HostConfig::default() };
        assert_eq!(filter(&admin, &config), Ok(Filter::Default { admin: true }));
    }

    #[test]
    fn rules_hold_for_capabilities_machines_and_kernels() {
        let profile = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{{"architecture": "{}", "subArchitectures": []}}], "syscalls": [
                {{"names": ["a", "b"], "action": "SCMP_ACT_ALLOW"}},
                {{"name": "c", "action": "SCMP_ACT_ALLOW", "includes": {{"caps": ["CAP_SYS_ADMIN"]}}}},
                {{"names": ["d"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {{"caps": ["CAP_SYS_ADMIN"]}}}},
                {{"names": ["e"], "action": "SCMP_ACT_ALLOW", "includes": {{"minKernel": "6.1"}}}},
                {{"names": ["f"], "action": "SCMP_ACT_ALLOW", "includes": {{"minKernel": "6.2"}}}},
                {{"names": ["g"], "action": "SCMP_ACT_ALLOW", "includes": {{"arches": ["s390x"]}}}},
                {{"names": ["h"], "action": "SCMP_ACT_ALLOW", "excludes": {{"arches": ["s390x"]}}, "includes": {{}}}}
            ]}}"#,
            ARCH.0
        );
        assert_eq!(rules(&profile, &["CHOWN"]), ["a", "b", "d", "e", "h"]);
        assert_eq!(rules(&profile, &["CHOWN", "SYS_ADMIN"]), ["a", "b", "c", "e", "h"]);
    }

    #[test]
    fn bad_profiles_are_refused_in_the_words_of_who_reads_them() {
        let runc = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed:";
        for (profile, words) in [
            (
                "{x",
                "Decoding seccomp profile failed: invalid character 'x' looking for beginning of object key string",
            ),
            (
                r#"{"architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86"}], "syscalls": [{}]}"#,
                "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
            ),
            (
                r#"{"syscalls": [{"name": "read", "names": ["write"]}]}"#,
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
            ),
            (
                r#"{"defaultAction": "ALLOW"}"#,
                &format!("{runc} string ALLOW is not a valid action for seccomp: unknown"),
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["x86"]}"#,
                &format!("{runc} string x86 is not a valid arch for seccomp: unknown"),
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_KILL", "args": [{"op": "EQ"}]}]}"#,
                &format!("{runc} string EQ is not a valid operator for seccomp: unknown"),
            ),
        ] {
            assert_eq!(refusal(profile), words);
        }
    }
}
