//! What is said of objects and who may say it: selectors, namespaces, configuration, rights, changes, own kinds.

use super::{apply, deployment};
use drydock_e2e::Lab;

#[tokio::test]
async fn k5_labels_and_selectors() {
    let lab = Lab::kubernetes(1).await;
    apply(&lab, &deployment("web", 2)).await;
    lab.sh("kubectl rollout status deployment/web --timeout=60s").await;
    let all = lab.sh("kubectl get all -l app=web -o name").await;
    for kind in ["pod/web-", "deployment.apps/web", "replicaset.apps/web-"] {
        assert!(all.contains(kind), "{kind}: {all}");
    }
    for (selector, count) in [
        ("app=web", "2"),
        ("app!=web", "0"),
        ("app in (web,db)", "2"),
        ("app notin (web)", "0"),
        ("app", "2"),
        ("!app", "0"),
    ] {
        let counted = lab.sh(&format!("kubectl get pods -l '{selector}' -o name | wc -l")).await;
        assert_eq!(counted, count, "{selector}");
    }
    // A pod whose label changes is released, and another takes its place.
    let pod = lab.sh("kubectl get pods -l app=web -o jsonpath='{.items[0].metadata.name}'").await;
    lab.sh(&format!("kubectl label pod {pod} app=alone --overwrite && kubectl wait --for=jsonpath='{{.status.readyReplicas}}'=2 deployment/web --timeout=60s")).await;
    assert_eq!(
        lab.sh(&format!("kubectl get pod {pod} -o jsonpath='{{.metadata.ownerReferences}}'")).await,
        ""
    );
    lab.end().await;
}

#[tokio::test]
async fn k12_namespaces_and_quotas() {
    let lab = Lab::kubernetes(1).await;
    lab.sh("kubectl create namespace a && kubectl create namespace b").await;
    for ns in ["a", "b"] {
        lab.sh(&format!("kubectl create configmap same --from-literal=where={ns} -n {ns}")).await;
    }
    assert_eq!(lab.sh("kubectl get configmap same -n b -o jsonpath='{.data.where}'").await, "b");
    lab.sh("kubectl create quota few --hard=pods=1,configmaps=3 -n a && kubectl run one --image=whoami -n a")
        .await;
    lab.refused(
        "kubectl run two --image=whoami -n a",
        1,
        "exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Ready pod/one -n a --timeout=60s && kubectl delete namespace a --timeout=60s").await;
    lab.refused("kubectl get namespace a", 1, "NotFound").await;
    assert_eq!(
        lab.sh("kubectl get pods -A -o jsonpath='{.items[?(@.metadata.namespace==\"a\")].metadata.name}'")
            .await,
        ""
    );
    lab.refused("kubectl create configmap x -n nowhere", 1, "namespaces \"nowhere\" not found").await;
    lab.end().await;
}

#[tokio::test]
async fn k13_config_maps_and_secrets() {
    let lab = Lab::kubernetes(1).await;
    lab.sh("kubectl create configmap conf --from-literal=color=blue && kubectl create secret generic key --from-literal=pass=hidden").await;
    assert!(!lab.sh("kubectl describe secret key").await.contains("hidden"));
    apply(
        &lab,
        "apiVersion: v1\nkind: Pod\nmetadata: {name: reader}\nspec:\n  containers:\n  - name: c\n    image: busybox\n    command: [sleep, '3600']\n    \
         env:\n    - {name: COLOR, valueFrom: {configMapKeyRef: {name: conf, key: color}}}\n    envFrom: [{secretRef: {name: key}}]\n    volumeMounts:\n    \
         - {name: conf, mountPath: /conf}\n    - {name: key, mountPath: /key, readOnly: true}\n  volumes:\n  - {name: conf, configMap: {name: conf}}\n  \
         - {name: key, secret: {secretName: key, defaultMode: 0400}}\n",
    )
    .await;
    lab.sh("kubectl wait --for=condition=Ready pod/reader --timeout=60s").await;
    assert_eq!(
        lab.sh("kubectl exec reader -- sh -c 'echo $COLOR $pass; cat /conf/color /key/pass; stat -Lc %a /key/pass'").await,
        "blue hidden\nbluehidden400"
    );
    // The account's token is there, and it is what the API server knows.
    assert_eq!(
        lab.sh("kubectl exec reader -- ls /var/run/secrets/kubernetes.io/serviceaccount").await,
        "ca.crt\nnamespace\ntoken"
    );
    let who = lab.sh("TOKEN=$(kubectl exec reader -- cat /var/run/secrets/kubernetes.io/serviceaccount/token); kubectl --kubeconfig /dev/null --server https://node1:6443 --insecure-skip-tls-verify --token \"$TOKEN\" auth whoami").await;
    assert!(who.contains("system:serviceaccount:default:default"), "{who}");
    lab.sh("kubectl patch configmap conf -p '{\"data\":{\"color\":\"red\"}}'").await;
    lab.sh("for i in $(seq 120); do [ \"$(kubectl exec reader -- cat /conf/color)\" = red ] && exit 0; sleep 1; done; exit 1").await;
    lab.end().await;
}

#[tokio::test]
async fn k17_rights() {
    let lab = Lab::kubernetes(1).await;
    lab.sh("kubectl create serviceaccount viewer && kubectl create role look --verb=get,list --resource=pods && kubectl create rolebinding look --role=look --serviceaccount=default:viewer").await;
    let as_viewer = "--as=system:serviceaccount:default:viewer";
    assert_eq!(lab.sh(&format!("kubectl auth can-i list pods {as_viewer}")).await, "yes");
    assert_eq!(lab.try_sh(&format!("kubectl auth can-i delete pods {as_viewer}")).await.text().trim(), "no");
    lab.sh(&format!("kubectl get pods {as_viewer}")).await;
    lab.refused(
        &format!("kubectl get secrets {as_viewer}"),
        1,
        "User \"system:serviceaccount:default:viewer\" cannot list resource \"secrets\" in API group \"\" in the namespace \"default\"",
    )
    .await;
    // A certificate for a person, as every lesson makes one.
    lab.sh(
        "cd /tmp && openssl req -new -newkey rsa:2048 -nodes -keyout k -out r -subj /CN=ann/O=devs 2> /dev/null && kubectl apply -f - <<EOF\n\
         apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {name: ann}\nspec:\n  signerName: kubernetes.io/kube-apiserver-client\n  \
         request: $(base64 -w0 r)\n  usages: [client auth]\nEOF\nkubectl certificate approve ann && kubectl wait --for=jsonpath='{.status.certificate}' csr/ann --timeout=30s",
    )
    .await;
    let who = lab.sh("cd /tmp && kubectl get csr ann -o jsonpath='{.status.certificate}' | base64 -d > c && kubectl --kubeconfig /dev/null --server https://node1:6443 --certificate-authority /etc/kubernetes/pki/ca.crt --client-certificate c --client-key k auth whoami").await;
    assert!(who.contains("ann") && who.contains("devs"), "{who}");
    lab.end().await;
}

#[tokio::test]
async fn k19_changes() {
    let lab = Lab::kubernetes(1).await;
    let manifest = deployment("web", 1);
    lab.sh(&format!("cat > /tmp/web.yaml <<'EOF'\n{manifest}\nEOF")).await;
    assert_eq!(
        lab.sh("kubectl apply --server-side -f /tmp/web.yaml").await,
        "deployment.apps/web serverside-applied"
    );
    lab.refused(
        "sed 's/replicas: 1/replicas: 2/' /tmp/web.yaml | kubectl apply --server-side --field-manager=other -f -",
        1,
        "conflict with \"kubectl\": .spec.replicas",
    )
    .await;
    lab.sh("sed 's/replicas: 1/replicas: 2/' /tmp/web.yaml | kubectl apply --server-side --field-manager=other --force-conflicts -f -").await;
    let diff = lab.try_sh("kubectl diff -f /tmp/web.yaml").await;
    assert_eq!(diff.code(), 1, "{diff:?}");
    assert!(diff.text().contains("-  replicas: 2") && diff.text().contains("+  replicas: 1"), "{diff:?}");
    for (kind, patch, path) in [
        (
            "strategic",
            r#"{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"S","value":"1"}]}]}}}}"#,
            "{.spec.template.spec.containers[0].env[0].name}{.spec.template.spec.containers[0].image}",
        ),
        ("merge", r#"{"metadata":{"labels":{"m":"1"}}}"#, "{.metadata.labels.m}"),
        ("json", r#"[{"op":"replace","path":"/spec/replicas","value":3}]"#, "{.spec.replicas}"),
    ] {
        lab.sh(&format!("kubectl patch deployment web --type={kind} -p '{patch}'")).await;
        let value = lab.sh(&format!("kubectl get deployment web -o jsonpath='{path}'")).await;
        assert_eq!(
            value,
            match kind {
                "strategic" => "Swhoami",
                "merge" => "1",
                _ => "3",
            },
            "{kind}"
        );
    }
    lab.refused(
        "sed 's/replicas: 1/replica: 1/' /tmp/web.yaml | kubectl apply -f -",
        1,
        "unknown field \"spec.replica\"",
    )
    .await;
    lab.refused(
        "kubectl patch deployment web -p '{\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"x\"}}}}'",
        1,
        "field is immutable",
    )
    .await;
    lab.sh("mkdir -p /tmp/k && cd /tmp/k && cp /tmp/web.yaml . && printf 'resources: [web.yaml]\\nnamePrefix: dev-\\n' > kustomization.yaml && kubectl apply -k . && kubectl get deployment dev-web").await;
    lab.end().await;
}

#[tokio::test]
async fn k20_own_kinds_and_helm() {
    let lab = Lab::kubernetes(1).await;
    // A chart with a definition of its own, an object of that kind, and a deployment.
    lab.sh(&format!(
        "mkdir -p /tmp/shop/crds /tmp/shop/templates && cd /tmp/shop && printf 'apiVersion: v2\\nname: shop\\nversion: 1.0.0\\n' > Chart.yaml && cat > crds/book.yaml <<'EOF'\n{CRD}\nEOF\n\
         cat > templates/book.yaml <<'EOF'\napiVersion: shop.example.com/v1\nkind: Book\nmetadata: {{name: first}}\nspec: {{pages: {{{{ .Values.pages }}}}}}\nEOF\n\
         printf 'pages: 12\\n' > values.yaml && cat > templates/web.yaml <<'EOF'\n{}\nEOF\nhelm install shop /tmp/shop --wait --timeout 60s",
        deployment("shop", 1)
    ))
    .await;
    assert!(lab.sh("helm list").await.contains("deployed"));
    let books = lab.sh("kubectl get books").await;
    assert!(books.contains("PAGES") && books.contains("12"), "{books}");
    assert_eq!(lab.sh("kubectl get book first -o jsonpath='{.spec.language}'").await, "en");
    lab.refused(
        "kubectl patch book first --type=merge -p '{\"spec\":{\"pages\":0}}'",
        1,
        "spec.pages: Invalid value: 0: spec.pages in body should be greater than or equal to 1",
    )
    .await;
    lab.refused("kubectl patch book first --type=merge -p '{\"spec\":{\"pages\":2000}}'", 1, "too thick")
        .await;
    lab.sh("helm upgrade shop /tmp/shop --set pages=20 --wait --timeout 60s && helm rollback shop 1 --wait --timeout 60s").await;
    assert_eq!(lab.sh("kubectl get book first -o jsonpath='{.spec.pages}'").await, "12");
    assert!(lab.sh("kubectl explain book.spec").await.contains("pages"));
    lab.sh("helm uninstall shop --wait && kubectl delete crd books.shop.example.com --timeout=30s").await;
    lab.refused(
        "kubectl get books",
        1,
        "the server could not find the requested resource (get books.shop.example.com)",
    )
    .await;
    lab.end().await;
}

const CRD: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: books.shop.example.com}
spec:
  group: shop.example.com
  scope: Namespaced
  names: {plural: books, singular: book, kind: Book}
  versions:
  - name: v1
    served: true
    storage: true
    additionalPrinterColumns: [{name: Pages, type: integer, jsonPath: .spec.pages}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [pages]
            x-kubernetes-validations: [{rule: self.pages < 1000, message: too thick}]
            properties:
              pages: {type: integer, minimum: 1}
              language: {type: string, default: en}";
