//! Where `serve` keeps artifacts: what it refuses before it listens, with one line that says what to change.

use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

const SECRET: &str = "a-secret-that-nobody-may-see";

/// What `serve` says on standard error with these arguments, which it must refuse.
fn refused(arguments: &str, variables: &[(&str, &str)]) -> String {
    let data = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_selvage-control"));
    command.arg("serve").arg("--data").arg(data.path()).args(arguments.split(' '));
    command.args(["--listen", "127.0.0.1:0", "--push-listen", "127.0.0.1:0"]);
    let ours = |name: &str| name.starts_with("AWS_") || name.starts_with("SELVAGE_");
    for (name, _) in std::env::vars().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.env("AWS_ACCESS_KEY_ID", "AKID").env("AWS_SECRET_ACCESS_KEY", SECRET).env("RUST_LOG", "off");
    let begun = Instant::now();
    let output = command.envs(variables.iter().copied()).output().expect("it starts");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {said}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{arguments:?}: {:?}", begun.elapsed());
    assert!(said.lines().count() == 1 && !said.contains(SECRET), "{arguments:?}: {said}");
    said
}

#[test]
fn what_is_no_place_for_artifacts_is_refused() {
    for (arguments, says) in [
        ("--artifacts https://bucket/x", "must be s3://BUCKET"),
        ("--artifacts s3://", "a bucket's name is"),
        ("--artifacts s3://bucket/../x", "each part of a prefix"),
        ("--artifacts s3://bucket --s3-endpoint minio:9000", "must be https://HOST"),
        ("--artifacts s3://bucket --s3-endpoint http://a:b@minio", "not into the URL"),
        ("--artifacts s3://bucket --s3-region a_b", "region"),
        (
            "--artifacts s3://bucket --s3-virtual-host --s3-endpoint http://127.0.0.1:9000",
            "only where the endpoint is a name",
        ),
        ("--s3-endpoint http://127.0.0.1:9000", "only with --artifacts s3://"),
        ("--artifacts folder --s3-region eu-central-1", "only with --artifacts s3://"),
    ] {
        let said = refused(arguments, &[]);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    let said = refused("--artifacts s3://bucket", &[("AWS_SECRET_ACCESS_KEY", "")]);
    assert!(said.contains("Missing SecretAccessKey"), "{said}");
}

#[test]
fn a_store_that_nobody_serves_ends_the_start() {
    // The address of nobody.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("its address"));
    drop(listener);
    for name in ["AWS_ENDPOINT_URL", "SELVAGE_S3_ENDPOINT"] {
        let said = refused("--artifacts s3://bucket/x", &[(name, url.as_str())]);
        assert!(said.contains(&format!("s3://bucket/x at {url}")) && said.contains("refused"), "{said}");
    }
}
