//! Tokens, TLS and client certificates; health, which needs none of it, and reflection.

use std::path::PathBuf;

use mq_grpc::Config;
use mq_grpc::client::{Brokers, Consumer, ConsumerOptions, Error, Publisher, PublisherOptions, Target};
use mq_nsq::server::{self, ClientAuthPolicy, TlsOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::auth_server::AuthServer;
use crate::stack::{Stack, message, soon, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_where_there_is_a_file_of_them() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "s3cret\n").unwrap();
    let nsq = server::Config { http_auth_token_file: Some(file), ..server::Config::default() };
    let stack = Stack::start_with(Config::default(), nsq).await;
    let target = || Target::new(&stack.grpc).unwrap();
    for (target, wanted) in [
        (target(), Err(Code::Unauthenticated)),
        (target().with_token("wrong").unwrap(), Err(Code::Unauthenticated)),
        (target().with_token("s3cret").unwrap(), Ok(())),
    ] {
        assert!(!format!("{target:?}").contains("s3cret"));
        let publisher = Publisher::new(vec![target.clone()], PublisherOptions::default());
        let published = soon("an answer", publisher.publish("t", vec![message("x")])).await;
        let brokers = Brokers::Fixed(vec![target]);
        let mut consumer = Consumer::new(brokers, "t", "c", ConsumerOptions::default());
        match wanted {
            Ok(()) => {
                published.unwrap();
                soon("a message", consumer.next()).await.unwrap().unwrap();
            }
            Err(code) => {
                let error = published.unwrap_err();
                assert!(matches!(error, Error::Refused(is, _) if is == code), "{error}");
                let error = soon("an answer", consumer.next()).await.unwrap().unwrap_err();
                assert!(matches!(error, Error::Refused(is, _) if is == code), "{error}");
            }
        }
    }
    let mut health = HealthClient::new(stack.channel().await);
    health.check(HealthCheckRequest::default()).await.unwrap();
}

/// Health is for everybody, and its streams take memory like others.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_few_streams_that_watch_health_are_served_and_more_are_refused_at_once() {
    const STREAMS: usize = 40;
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "s3cret\n").unwrap();
    let nsq = server::Config { http_auth_token_file: Some(file), ..server::Config::default() };
    let stack = Stack::start_with(Config::default(), nsq).await;
    let mut health = HealthClient::new(stack.channel().await);
    let (mut watching, mut refused) = (Vec::new(), 0);
    for _ in 0..STREAMS {
        match soon("an answer", health.watch(HealthCheckRequest::default())).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                soon("the first state", stream.message()).await.unwrap().unwrap();
                watching.push(stream);
            }
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
                assert!(status.message().contains("before a call was admitted"), "{status}");
                refused += 1;
            }
        }
    }
    assert_eq!((watching.len(), refused), (16, STREAMS - 16));
    drop(watching);
    soon("a place that is free again", async {
        while health.watch(HealthCheckRequest::default()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A root, and what it vouches for.
struct Certificates {
    folder: TempDir,
    root: String,
    client: (String, String),
}

impl Certificates {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            (params.signed_by(&key, &root).unwrap().pem(), key.serialize_pem())
        };
        let (server, client) = (issue("localhost"), issue("worker"));
        let root = root.pem();
        for (file, text) in [("root.pem", &root), ("server.pem", &server.0), ("server.key", &server.1)] {
            std::fs::write(folder.path().join(file), text).unwrap();
        }
        Self { folder, root, client }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn options(&self, client_auth_policy: ClientAuthPolicy) -> server::Config {
        let tls = TlsOptions {
            cert: self.path("server.pem"),
            key: self.path("server.key"),
            root_ca_file: Some(self.path("root.pem")),
            client_auth_policy,
            ..TlsOptions::default()
        };
        server::Config { tls: Some(tls), ..server::Config::default() }
    }

    fn trusting(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.root)).domain_name("localhost")
    }
}

async fn published(target: Target) -> Result<(), Error> {
    let options = PublisherOptions { timeout: std::time::Duration::from_secs(1), ..Default::default() };
    let publisher = Publisher::new(vec![target], options);
    soon("an answer", publisher.publish("t", vec![message("x")])).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_and_nothing_else_where_there_is_a_certificate() {
    let certificates = Certificates::new();
    let stack = Stack::start_with(Config::default(), certificates.options(ClientAuthPolicy::None)).await;
    let target = || Target::new(&stack.grpc).unwrap();
    let trusted = target().with_tls(certificates.trusting()).unwrap();
    published(trusted.clone()).await.unwrap();
    let consumer = Consumer::new(Brokers::Fixed(vec![trusted]), "t", "c", ConsumerOptions::default());
    let listed = until("the consumer", || stack.clients.list().pop()).await;
    assert!(listed.tls().is_some_and(|tls| tls.version.starts_with("TLS")), "{listed:?}");
    drop(consumer);
    assert!(matches!(published(target()).await, Err(Error::Unreachable(_) | Error::Unknown)));
    // A client that does not know the root.
    let stranger = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(Certificates::new().root));
    let stranger = target().with_tls(stranger.domain_name("localhost")).unwrap();
    assert!(matches!(published(stranger).await, Err(Error::Unreachable(_) | Error::Unknown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_asked_for_where_it_must_be() {
    let certificates = Certificates::new();
    let policy = ClientAuthPolicy::RequireVerify;
    let stack = Stack::start_with(Config::default(), certificates.options(policy)).await;
    let target = || Target::new(&stack.grpc).unwrap();
    let (certificate, key) = &certificates.client;
    let known = certificates.trusting().identity(Identity::from_pem(certificate, key));
    published(target().with_tls(known).unwrap()).await.unwrap();
    let unknown = target().with_tls(certificates.trusting()).unwrap();
    assert!(matches!(published(unknown).await, Err(Error::Unreachable(_) | Error::Unknown)));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_the_broker() {
    let stack = Stack::start().await;
    let mut health = HealthClient::new(stack.channel().await);
    let watch = HealthCheckRequest { service: "mq.v1.PublishService".to_owned() };
    let mut watched = health.watch(watch).await.unwrap().into_inner();
    let mut next = async |wanted: ServingStatus| loop {
        let status = soon("a status", watched.message()).await.unwrap().unwrap().status();
        if status == wanted {
            break;
        }
    };
    next(ServingStatus::Serving).await;
    stack.broker.drain();
    next(ServingStatus::NotServing).await;
    let whole = health.check(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(whole.status(), ServingStatus::NotServing);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services() {
    let stack = Stack::start().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(stack.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = soon("an answer", answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.iter().map(|service| &service.name[..]).collect();
    for name in
        ["mq.v1.PublishService", "mq.v1.SubscribeService", "mq.v1.AdminService", "grpc.health.v1.Health"]
    {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_asks_for_the_token_too() {
    use tonic_reflection::pb::v1alpha;

    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "s3cret\n").unwrap();
    let nsq = server::Config { http_auth_token_file: Some(file), ..server::Config::default() };
    let stack = Stack::start_with(Config::default(), nsq).await;
    for (secret, wanted) in
        [(None, Code::Unauthenticated), (Some("wrong"), Code::Unauthenticated), (Some("s3cret"), Code::Ok)]
    {
        let show = move |mut request: tonic::Request<()>| {
            if let Some(secret) = secret {
                request.metadata_mut().insert("authorization", format!("Bearer {secret}").parse().unwrap());
            }
            Ok(request)
        };
        let channel = stack.channel().await;
        let mut client = ServerReflectionClient::with_interceptor(channel.clone(), show);
        let asked = client.server_reflection_info(tokio_stream::empty()).await;
        assert_eq!(asked.map_or_else(|status| status.code(), |_| Code::Ok), wanted, "{secret:?}");
        let mut client =
            v1alpha::server_reflection_client::ServerReflectionClient::with_interceptor(channel, show);
        let asked = client.server_reflection_info(tokio_stream::empty()).await;
        assert_eq!(asked.map_or_else(|status| status.code(), |_| Code::Ok), wanted, "old, {secret:?}");
    }
}

/// Reflection for clients that know only its older version.
#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_a_service_to_old_clients() {
    use tonic_reflection::pb::v1alpha::ServerReflectionRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;

    let stack = Stack::start().await;
    let symbol = "mq.v1.SubscribeService".to_owned();
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(symbol)),
    };
    let mut client = ServerReflectionClient::new(stack.channel().await);
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = soon("an answer", answers.message()).await.unwrap().unwrap();
    let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
        panic!("no file")
    };
    let file: prost_types::FileDescriptorProto =
        prost::Message::decode(&files.file_descriptor_proto[0][..]).unwrap();
    assert_eq!((file.name(), file.package()), ("mq/v1/subscribe.proto", "mq.v1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_an_auth_server_permits_what_that_says() {
    let auth = AuthServer::start(
        r#"{"ttl":3600,"identity":"me","authorizations":[
            {"topic":"^mine$","channels":[".*"],"permissions":["publish"]},
            {"topic":"^mine$","channels":["^c$"],"permissions":["subscribe"]}]}"#,
    )
    .await;
    let nsq = server::Config { auth_http_addresses: vec![auth.address.clone()], ..server::Config::default() };
    let stack = Stack::start_with(Config::default(), nsq).await;
    let target = Target::new(&stack.grpc).unwrap();
    let publisher = Publisher::new(vec![target.clone().with_token("s3cret").unwrap()], Default::default());
    soon("an answer", publisher.publish("mine", vec![message("x")])).await.unwrap();
    let error = soon("an answer", publisher.publish("yours", vec![message("x")])).await.unwrap_err();
    assert!(matches!(error, Error::Refused(Code::PermissionDenied, _)), "{error}");
    assert!(auth.requests()[0].contains("secret=s3cret"), "{:?}", auth.requests());
    let consumer = |channel: &str, target: &Target| {
        let brokers = Brokers::Fixed(vec![target.clone()]);
        Consumer::new(brokers, "mine", channel, ConsumerOptions::default())
    };
    let target = target.with_token("s3cret").unwrap();
    soon("a message", consumer("c", &target).next()).await.unwrap().unwrap();
    let error = soon("an answer", consumer("d", &target).next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Refused(Code::PermissionDenied, _)), "{error}");
    let stranger = Target::new(&stack.grpc).unwrap();
    let error = soon("an answer", consumer("c", &stranger).next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Refused(Code::Unauthenticated, _)), "{error}");
}
