//! Compiles `proto/` into Rust: messages always, gRPC stubs and the JSON mapping as features ask.
//!
//! No `protoc` is needed: `protox` parses the files, `prost` writes the messages.

use std::error::Error;
use std::path::PathBuf;

const FILES: &[&str] = &[
    "authpb/auth.proto",
    "etcdserverpb/auth.proto",
    "etcdserverpb/cluster.proto",
    "etcdserverpb/header.proto",
    "etcdserverpb/kv.proto",
    "etcdserverpb/lease.proto",
    "etcdserverpb/maintenance.proto",
    "etcdserverpb/metadata.proto",
    "etcdserverpb/raft_internal.proto",
    "etcdserverpb/watch.proto",
    "leasepb/lease.proto",
    "membershippb/membership.proto",
    "mvccpb/kv.proto",
    "v3electionpb/election.proto",
    "v3lockpb/lock.proto",
    "versionpb/version.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let mut files = protox::compile(FILES, ["proto"])?;
    // The options of `versionpb` speak to readers of the files; no code comes of them.
    files.file.retain(|f| !matches!(f.package(), "google.protobuf" | "versionpb"));

    let mut messages = prost_build::Config::new();
    // Keys and values stay slices of the message that they came in.
    messages.bytes(["."]);
    messages.out_dir(&out);
    #[cfg(feature = "json")]
    json::build(&files, &out)?;
    #[cfg(feature = "grpc")]
    tonic_prost_build::configure().out_dir(&out).bytes(".").compile_fds_with_config(files, messages)?;
    #[cfg(not(feature = "grpc"))]
    messages.compile_fds(files)?;
    Ok(())
}

#[cfg(feature = "json")]
mod json {
    //! pbjson's mapping, bent to the gateway's rules where they differ.

    use std::error::Error;
    use std::path::Path;

    use prost::Message as _;
    use protox::prost_reflect::prost_types::FileDescriptorSet;

    pub(super) fn build(files: &FileDescriptorSet, out: &Path) -> Result<(), Box<dyn Error>> {
        pbjson_build::Builder::new()
            .register_descriptors(&files.encode_to_vec())?
            .out_dir(out)
            .preserve_proto_field_names()
            .ignore_unknown_fields()
            .build(&["."])?;
        for entry in std::fs::read_dir(out)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(".serde.rs") {
                let text = std::fs::read_to_string(&path)?;
                std::fs::write(&path, bend(&text))?;
            }
        }
        Ok(())
    }

    /// Makes `null` mean "unset", integers accept integral floats and enums accept unknown values.
    /// The types that take over are in `src/json.rs`.
    fn bend(generated: &str) -> String {
        let nullable = generated
            .replace("Some(map_.next_value()?)", "map_.next_value()?")
            .replace("::pbjson::private::NumberDeserialize<_>", "crate::json::Integer<_>");
        let nullable = rewrite(&nullable, "Some(map_.next_value::<", ">()?.0)", |ty| {
            format!("map_.next_value::<::std::option::Option<{ty}>>()?.map(|x| x.0)")
        });
        let open = rewrite(&nullable, "Some(map_.next_value::<", ">()? as i32)", |ty| {
            format!(
                "map_.next_value::<::std::option::Option<crate::json::OpenEnum<{ty}>>>()?.and_then(|x| x.0)"
            )
        });
        let several = rewrite(
            &open,
            "Some(map_.next_value::<Vec<",
            ">>()?.into_iter().map(|x| x as i32).collect())",
            |ty| {
                format!(
                    "map_.next_value::<::std::option::Option<Vec<crate::json::OpenEnum<{ty}>>>>()?\
                     .map(|all| all.into_iter().filter_map(|x| x.0).collect())"
                )
            },
        );
        assert!(
            !several.contains("x as i32") && !several.contains("NumberDeserialize"),
            "pbjson's output has changed its form: the JSON rules no longer apply to it"
        );
        several
    }

    /// Replaces each `<head>…<tail>` that lies within one line by `with(…)`.
    fn rewrite(text: &str, head: &str, tail: &str, with: impl Fn(&str) -> String) -> String {
        let mut out = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            match line.split_once(head) {
                Some((before, rest)) if rest.contains(tail) => {
                    let (inner, after) = rest.split_once(tail).unwrap_or((rest, ""));
                    out.push_str(before);
                    out.push_str(&with(inner));
                    out.push_str(after);
                }
                _ => out.push_str(line),
            }
        }
        out
    }
}
