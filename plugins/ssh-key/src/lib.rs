//! Standard hook `ssh-key`: the user's public keys into `.ssh/authorized_keys`.
//!
//! The keys come from the logical names `ssh-public-keys` (files, by default `~/.ssh/*.pub`) and
//! `ssh-agent-keys` (what `ssh-add -L` prints). Only lines that look like public keys pass: a private
//! key that somebody mapped by mistake never reaches a guest. They go into a block of their own at the
//! end of the file; what the guest's user added stays. Without keys the block is removed.

use std::collections::HashSet;

use cove_plugin_sdk::{HostFile, HostFiles, Kind, Place, PrepareWorkDisk, Result, plugin, warning};

/// Where keys come from.
const SOURCES: [&str; 2] = ["ssh-public-keys", "ssh-agent-keys"];
/// A file of public keys is a few hundred bytes; a larger one was mapped by mistake.
const MAX_FILE: u64 = 64 * 1024;
/// Key types as OpenSSH names them.
const TYPES: [&str; 7] = [
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
];

plugin! { prepare_work_disk = prepare }

fn prepare(call: &PrepareWorkDisk) -> Result<()> {
    let keys = collect(call.files)?;
    if keys.is_empty() {
        warning!(
            "no public key was found: ways in by ssh other than cove's own need one; make one with \
             `ssh-keygen`"
        );
    }
    call.disk.make_directory(".ssh", 0o700)?;
    let path = ".ssh/authorized_keys";
    call.disk.ensure_block(path, 0o600, "cove ssh-key", &keys.concat(), Place::End)
}

/// The lines of all keys, each key once.
fn collect(files: &HostFiles) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut lines = Vec::new();
    for source in SOURCES {
        for file in files.entries(source)? {
            if file.kind() == Kind::Missing {
                warning!("`{}` is not there", file.label());
            }
            if file.kind() != Kind::File {
                continue;
            }
            for line in text(&file)?.lines() {
                match public_key(line) {
                    Line::Key { blob, line } if seen.insert(blob.to_owned()) => lines.push(line),
                    Line::Key { .. } | Line::Empty => {}
                    Line::Other => {
                        let label = file.label();
                        warning!("a line of `{label}` is no public key and is left out");
                    }
                }
            }
        }
    }
    Ok(lines)
}

fn text(file: &HostFile) -> Result<String> {
    if file.size() > MAX_FILE {
        let label = file.label();
        warning!("`{label}` is too large for a file of public keys and is left out");
        return Ok(String::new());
    }
    let bytes = file.bytes(MAX_FILE)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

enum Line<'a> {
    Empty,
    Key { blob: &'a str, line: String },
    Other,
}

/// `TYPE BASE64 [COMMENT]` (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"). Options before the type are not
/// taken over: they may name commands of the host.
fn public_key(line: &str) -> Line<'_> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Line::Empty;
    }
    let mut words = line.split_ascii_whitespace();
    let (Some(kind), Some(blob)) = (words.next(), words.next()) else {
        return Line::Other;
    };
    // The blob begins with the length of the type's name, so all of them begin with these letters.
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte);
    if !TYPES.contains(&kind) || !blob.starts_with("AAAA") || !blob.bytes().all(base64) {
        return Line::Other;
    }
    let comment: String = words.collect::<Vec<_>>().join(" ");
    let comment: String = comment.chars().filter(|c| !c.is_control()).take(256).collect();
    let line = format!("{kind} {blob} {comment}");
    Line::Key { blob, line: format!("{}\n", line.trim_end()) }
}
