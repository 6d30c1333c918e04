//! How the kubelet is configured: `KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1` with its defaults
//! (`pkg/kubelet/apis/config/v1beta1/defaults.go`), the file that `--config` names, and the flags that override it. Fields with a meaning
//! here have a method; the others are only told (`/configz`).

use crate::command_line::{self, CommandLine};
use crate::quantity;
use drydock_cluster::{DNS_SERVICE, DOMAIN, KUBELET_PORT, Paths, RUNTIME_ENDPOINT};
use drydock_go::{
    io_text,
    json::{kind, wrong_type},
};
use serde_json::{Map, Value, json};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What does not depend on the node.
const DEFAULTS: &str = include_str!("configuration.json");
/// Fields without a default.
const OTHER_FIELDS: &str = "kind apiVersion staticPodURL staticPodURLHeader port readOnlyPort staticPodPath tlsCertFile tlsPrivateKeyFile \
     tlsCipherSuites tlsMinVersion serverTLSBootstrap clusterDomain clusterDNS kubeletCgroups systemCgroups cgroupRoot \
     singleProcessOOMKill cpuManagerPolicyOptions topologyManagerPolicyOptions qosReserved podCIDR maxParallelImagePulls \
     evictionSoft evictionSoftGracePeriod evictionMaxPodGracePeriod evictionMinimumReclaim podsPerCore protectKernelDefaults \
     featureGates systemReserved kubeReserved reservedSystemCPUs showHiddenMetricsForVersion systemReservedCgroup \
     kubeReservedCgroup allowedUnsafeSysctls kernelMemcgNotification providerID shutdownGracePeriodByPodPriority reservedMemory \
     registerWithTaints tracing imageServiceEndpoint preloadedImagesVerificationAllowlist userNamespaces";

/// Why the kubelet can't be configured, as upstream says it (`cmd/kubelet/app/server.go`).
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file can't be read.
    #[error(
        "failed to load kubelet config file, path: {path}, error: failed to load Kubelet config file {path}, \
         error failed to read kubelet config file \"{path}\", error: open {path}: {}",
        io_text(error)
    )]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is no configuration.
    #[error(
        "failed to load kubelet config file, path: {path}, error: failed to load Kubelet config file {path}, \
         error failed to decode: {why}"
    )]
    Decode {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The authority of the kubelet's clients can't be read.
    #[error(
        "failed to construct kubelet dependencies: unable to load client CA file {path}: open {path}: {}",
        io_text(error)
    )]
    Authority {
        /// Where it was to be.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Settings(Value);

impl Settings {
    /// Reads what the command line names.
    ///
    /// # Errors
    /// If a file that is named is not there or not what it should be.
    pub fn read(line: &CommandLine, paths: &Paths) -> Result<Self, SettingsError> {
        let mut all: Value = serde_json::from_str(DEFAULTS).unwrap_or_default();
        let ((certificate, key), authority) = (paths.kubelet_serving(), paths.pki().join("ca.crt"));
        let own = json!({
            "authentication": { "x509": { "clientCAFile": authority } },
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": DOMAIN,
            "containerRuntimeEndpoint": RUNTIME_ENDPOINT,
            "port": KUBELET_PORT,
            "staticPodPath": paths.manifests(),
            "tlsCertFile": certificate,
            "tlsPrivateKeyFile": key,
        });
        merge(&mut all, own);
        if let Some(path) = &line.config {
            merge(&mut all, Value::Object(file(path)?));
        }
        for (pointer, value) in &line.fields {
            if let Some(field) = all.pointer_mut(pointer) {
                *field = value.clone();
            }
        }
        let settings = Self(all);
        if let Err(error) = fs::File::open(settings.client_ca()) {
            return Err(SettingsError::Authority { path: settings.client_ca(), error });
        }
        Ok(settings)
    }

    /// All of it.
    pub fn all(&self) -> &Value {
        &self.0
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// Who signs the certificates of the kubelet's clients.
    pub fn client_ca(&self) -> PathBuf {
        self.text("/authentication/x509/clientCAFile").into()
    }

    /// Where the manifests of static pods are.
    pub fn manifests(&self) -> PathBuf {
        self.text("/staticPodPath").into()
    }

    /// The socket of the engine; none if the address is of another kind.
    pub fn engine_socket(&self) -> PathBuf {
        let endpoint = self.text("/containerRuntimeEndpoint");
        endpoint.strip_prefix("unix://").unwrap_or(endpoint).into()
    }

    /// The name servers of pods.
    pub fn cluster_dns(&self) -> Vec<String> {
        let list = self.0["clusterDNS"].as_array();
        list.into_iter().flatten().filter_map(|server| server.as_str().map(str::to_owned)).collect()
    }

    /// The domain of the cluster's names.
    pub fn cluster_domain(&self) -> &str {
        self.text("/clusterDomain")
    }

    /// Most pods.
    pub fn max_pods(&self) -> u64 {
        self.0["maxPods"].as_u64().unwrap_or(0)
    }

    /// Where the kubelet tells on the node itself that it is well.
    pub fn healthz_port(&self) -> u16 {
        self.0["healthzPort"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(0)
    }

    /// How much is to be logged.
    pub fn verbosity(&self) -> u64 {
        self.0["logging"]["verbosity"].as_u64().unwrap_or(0)
    }

    /// What of a resource is not for pods, in thousandths of its unit: what is reserved, and of the memory what must stay free. `total`: what
    /// there is, in thousandths.
    pub fn reserved(&self, resource: &str, total: i128) -> i128 {
        let quantity = |value: &Value| value.as_str().and_then(quantity::milli).unwrap_or(0);
        let kept: i128 =
            ["kubeReserved", "systemReserved"].iter().map(|field| quantity(&self.0[field][resource])).sum();
        let free = &self.0["evictionHard"][format!("{resource}.available")];
        let percent = free.as_str().and_then(|text| text.strip_suffix('%')?.parse::<f64>().ok());
        let free = match percent {
            Some(percent) => (total as f64 * percent / 100.0) as i128,
            None => quantity(free),
        };
        (kept + free).clamp(0, total)
    }
}

/// Reads the file.
fn file(path: &Path) -> Result<Map<String, Value>, SettingsError> {
    let failed = |error| SettingsError::Read { path: path.into(), error };
    let text = command_line::read(path).map_err(failed)?;
    decode(&text).map_err(|why| SettingsError::Decode { path: path.into(), why })
}

fn decode(text: &str) -> Result<Map<String, Value>, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| format!("yaml: {error}"))?;
    let Value::Object(map) = value else {
        return Err("couldn't get version/kind; json parse error: json: cannot unmarshal into Go value of type struct".into());
    };
    let text = |field: &str| map.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (version, named) = (text("apiVersion"), text("kind"));
    if version != "kubelet.config.k8s.io/v1beta1" || named != "KubeletConfiguration" {
        return Err(match (&*version, &*named) {
            (_, "") => "Object 'Kind' is missing".into(),
            ("", _) => "Object 'apiVersion' is missing".into(),
            _ => format!(
                "no kind {named:?} is registered for version {version:?} in scheme \"pkg/kubelet/apis/config/scheme/scheme.go\""
            ),
        });
    }
    let defaults: Map<String, Value> = serde_json::from_str(DEFAULTS).unwrap_or_default();
    for (field, value) in &map {
        if let Some(default) = defaults.get(field) {
            let must = kind(default);
            if kind(value) != must && !value.is_null() {
                let into = format!("Go struct field KubeletConfiguration.{field} of type {must}");
                return Err(wrong_type(value, &into));
            }
        } else if !OTHER_FIELDS.split_whitespace().any(|known| known == field) {
            tracing::warn!(
                err = format!("strict decoding error: unknown field {field:?}"),
                "Using lenient decoding as strict decoding failed"
            );
        }
    }
    Ok(map)
}

/// Puts one configuration over another. What is empty stands for the default.
fn merge(below: &mut Value, above: Value) {
    match (below, above) {
        (Value::Object(below), Value::Object(above)) => {
            for (field, value) in above {
                merge(below.entry(field).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (_, Value::String(text)) if text.is_empty() || text == "0s" => {}
        (below, above) => *below = above,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drydock_cluster::kubelet_configuration;

    fn read(config: &str, fields: &[(&'static str, Value)]) -> Result<Settings, SettingsError> {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::below(dir.path());
        fs::create_dir_all(paths.pki()).unwrap();
        fs::write(paths.pki().join("ca.crt"), "").unwrap();
        let path = dir.path().join("config.yaml");
        let ca = paths.pki().join("ca.crt");
        fs::write(&path, config.replace("/etc/kubernetes/pki/ca.crt", &ca.to_string_lossy())).unwrap();
        let line = CommandLine { config: Some(path), fields: fields.to_vec(), ..CommandLine::default() };
        Settings::read(&line, &paths)
    }

    #[test]
    fn kubeadms_file_leaves_the_defaults() {
        let settings = read(&kubelet_configuration(), &[]).unwrap();
        assert_eq!(settings.manifests(), Path::new("/etc/kubernetes/manifests"));
        assert_eq!((settings.cluster_dns(), settings.cluster_domain()), (vec!["10.96.0.10".into()], DOMAIN));
        assert_eq!(settings.engine_socket(), Path::new("/run/docker.sock"));
        assert_eq!((settings.max_pods(), settings.verbosity(), settings.healthz_port()), (110, 0, 10_248));
        assert_eq!(settings.all()["syncFrequency"], "1m0s");
        assert!(settings.all().as_object().unwrap().len() > 80);
        assert_eq!(settings.reserved("memory", 4_000 << 30), 100_000 << 20);
        assert_eq!(settings.reserved("cpu", 2_000), 0);
    }

    #[test]
    fn the_file_overrides_the_defaults_and_flags_the_file() {
        let file = kubelet_configuration()
            + "maxPods: 7\nevictionHard:\n  memory.available: 10%\nkubeReserved:\n  memory: 1Ki\n  cpu: 100m\nnobody: knows\n";
        let settings = read(&file, &[("/logging/verbosity", json!(4))]).unwrap();
        assert_eq!((settings.max_pods(), settings.verbosity()), (7, 4));
        assert_eq!(settings.reserved("memory", 1_000_000), 1_000_000, "no more than there is");
        assert_eq!(settings.reserved("memory", 100_000_000), 10_000_000 + 1_024_000);
        assert_eq!(settings.reserved("cpu", 2_000), 100);
    }

    #[test]
    fn what_is_wrong_is_told_as_upstream_tells_it() {
        let of = |text: &str| decode(text).unwrap_err();
        assert_eq!(of("a: b"), "Object 'Kind' is missing");
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        assert_eq!(
            of(&format!("{head}maxPods: many")),
            "json: cannot unmarshal string into Go struct field KubeletConfiguration.maxPods of type number"
        );
        assert!(of(&format!("{head}  staticPodPath: /x: y")).starts_with("yaml: "));
        let wrong_ca = kubelet_configuration().replace("pki/ca.crt", "pki/WRONG.crt");
        assert_eq!(
            read(&wrong_ca, &[]).unwrap_err().to_string(),
            "failed to construct kubelet dependencies: unable to load client CA file /etc/kubernetes/pki/WRONG.crt: \
             open /etc/kubernetes/pki/WRONG.crt: no such file or directory"
        );
        let line = CommandLine { config: Some("/no/config.yaml".into()), ..CommandLine::default() };
        let said = Settings::read(&line, &Paths::default()).unwrap_err().to_string();
        assert!(said.ends_with("error: open /no/config.yaml: no such file or directory"), "{said}");
    }
}
