//! `seccompProfile` of pods and containers as an option of the engine (`pkg/kubelet/kuberuntime/helpers.go`, `getSeccompProfile`, and
//! cri-dockerd's `getSeccompDockerOpts`, whose words these are). Profiles of one's own are files of the node.

use super::pod;
use crate::volumes::inside;
use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile};
use nix::errno::Errno;
use std::{io, path::Path};

/// Where the node's profiles are.
const PROFILES: &str = "/var/lib/kubelet/seccomp";

/// Largest profile; Docker's has 14 KB.
const MAX_PROFILE: u64 = 1 << 20;

/// The option for a container. The error is what its state says with `CreateContainerError`.
pub fn option(pod: &Pod, container: &Container) -> Result<Option<String>, String> {
    let of_pod =
        pod::spec(pod).security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
    let own = container.security_context.as_ref().and_then(|context| context.seccomp_profile.as_ref());
    of_profile(own.or(of_pod), Path::new(PROFILES)).map_err(|why| {
        format!(
            "failed to generate security options for container {:?}: \
             failed to generate seccomp security options for container: {why}",
            container.name
        )
    })
}

fn of_profile(profile: Option<&SeccompProfile>, profiles: &Path) -> Result<Option<String>, String> {
    // Without `seccompDefault` in the kubelet's configuration, who asks for nothing is not filtered.
    let Some(profile) = profile else { return Ok(Some("seccomp=unconfined".into())) };
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(None),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            let path = profiles.join(name);
            let text = inside::read(profiles, name, MAX_PROFILE).map_err(|error| {
                format!("cannot load seccomp profile {path:?}: {}", as_go_says(&path, &error))
            })?;
            Ok(Some(format!("seccomp={text}")))
        }
        _ => Ok(Some("seccomp=unconfined".into())),
    }
}

fn as_go_says(path: &Path, error: &io::Error) -> String {
    if path.is_dir() {
        return format!("read {}: is a directory", path.display());
    }
    let code = error.raw_os_error().map(|code| Errno::from_raw(code).desc().to_lowercase());
    format!("open {}: {}", path.display(), code.unwrap_or_else(|| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn profile(kind: &str, file: Option<&str>) -> SeccompProfile {
        SeccompProfile { type_: kind.into(), localhost_profile: file.map(Into::into) }
    }

    #[test]
    fn profiles_are_the_engines_none_or_files_of_the_node() {
        let node = tempfile::tempdir().unwrap();
        let profiles = node.path().join("seccomp");
        let of = |profile: &SeccompProfile| of_profile(Some(profile), &profiles);
        assert_eq!(of_profile(None, &profiles), Ok(Some("seccomp=unconfined".into())));
        assert_eq!(of(&profile("Unconfined", None)), Ok(Some("seccomp=unconfined".into())));
        assert_eq!(of(&profile("RuntimeDefault", None)), Ok(None));
        let audit = profile("Localhost", Some("profiles/audit.json"));
        let path = profiles.join("profiles/audit.json");
        let missing = format!(
            "cannot load seccomp profile {path:?}: open {}: no such file or directory",
            path.display()
        );
        assert_eq!(of(&audit), Err(missing.clone()), "not even the directory");
        fs::create_dir_all(profiles.join("profiles")).unwrap();
        assert_eq!(of(&audit), Err(missing));
        fs::write(&path, "{\"defaultAction\": \"SCMP_ACT_LOG\"}\n").unwrap();
        assert_eq!(of(&audit), Ok(Some("seccomp={\"defaultAction\": \"SCMP_ACT_LOG\"}\n".into())));
        assert!(
            of(&profile("Localhost", Some("profiles"))).unwrap_err().ends_with("profiles: is a directory")
        );
    }
}
