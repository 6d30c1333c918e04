//! kubeconfig files, as kubeadm writes them (`cmd/kubeadm/app/util/kubeconfig`).

use crate::pki::Certificate;
use data_encoding::BASE64;

/// The file for a user.
pub fn write(server: &str, ca: &str, user: &str, identity: &Certificate) -> String {
    let context = format!("{user}@kubernetes");
    format!(
        "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {ca}
    server: {server}
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: {user}
  name: {context}
current-context: {context}
kind: Config
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
",
        ca = BASE64.encode(ca.as_bytes()),
        certificate = BASE64.encode(identity.certificate.as_bytes()),
        key = BASE64.encode(identity.key.as_bytes()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_yaml_with_everything_in_it() {
        let identity = Certificate { certificate: "cert\n".into(), key: "key\n".into() };
        let text = write("https://192.168.0.11:6443", "ca\n", "system:node:node2", &identity);
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(value["clusters"][0]["cluster"]["server"], "https://192.168.0.11:6443");
        assert_eq!(value["clusters"][0]["cluster"]["certificate-authority-data"], "Y2EK");
        assert_eq!(value["current-context"], "system:node:node2@kubernetes");
        assert_eq!(value["users"][0]["user"]["client-key-data"], "a2V5Cg==");
    }
}
