//! Applying a work-disk plan below the home.
//!
//! ```text
//! stage: begin(step) content* end   …   every content lies in the staging folder of the work disk
//! commit: syncfs · each step in order, contents by rename · syncfs · staging folder away
//! ```
//!
//! A plan that was cut off is done again at the next boot: staging starts by clearing the folder, and
//! every step gives the same result twice. The work disk is hostile input (module `beneath`).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;

use super::beneath::{self, Beneath};
use super::failure::{During, Failure};
use crate::archive::remove_tree;
use crate::block;
use crate::wire::guest::PlanStep;

/// How many pieces of a plan may wait for the disk.
pub const QUEUE: usize = 4;

/// A piece of a plan as it arrives.
#[derive(Debug)]
pub enum Piece {
    /// A step.
    Step(PlanStep),
    /// A part of the last step's content.
    Content(Bytes),
    /// The end of the last step's content.
    End,
}

/// Applies a plan of `steps` steps below `home` as its pieces arrive. Blocks.
///
/// # Errors
/// Names the step that failed; also when the pieces stop early, and then nothing has been changed.
pub fn receive(home: &Path, steps: u32, mut pieces: mpsc::Receiver<Piece>) -> Result<(), Failure> {
    let home = Beneath::open(home).during("open the home")?;
    let mut staging = Staging::start(&home)?;
    let mut left = steps;
    while left > 0 || staging.open.is_some() {
        match pieces.blocking_recv() {
            Some(Piece::Step(step)) => {
                left = left.saturating_sub(1);
                staging.begin(step)?;
            }
            Some(Piece::Content(bytes)) => staging.content(&bytes)?,
            Some(Piece::End) => staging.end()?,
            None => return Err(Failure::new(staging.current(), "the plan was cut off")),
        }
    }
    staging.commit()
}

/// The folder at the home's root in which everything lies until it is whole. It has a fixed name, so
/// that the next boot clears what a cut-off one left.
pub const STAGING: &str = ".cove-staging";

/// The largest file in which a block is kept, and the largest block: such files are configuration that
/// people edit, and both are held in memory.
const MAX_BLOCK_FILE: u64 = 1 << 20;

/// A plan on its way to the disk.
#[derive(Debug)]
pub struct Staging<'a> {
    home: &'a Beneath,
    folder: OwnedFd,
    steps: Vec<PlanStep>,
    /// The last step so far that decides what is at a path.
    latest: HashMap<PathBuf, usize>,
    open: Option<Open>,
}

/// The content that is being received.
#[derive(Debug)]
enum Open {
    File { file: File, left: u64 },
    Block { content: Vec<u8>, left: u64 },
}

impl<'a> Staging<'a> {
    /// Starts with an empty staging folder.
    ///
    /// # Errors
    /// When the work disk cannot be written.
    pub fn start(home: &'a Beneath) -> Result<Self, Failure> {
        let make = || {
            remove_tree(home, OsStr::new(STAGING))?;
            let folder = home.make_folder(Path::new(STAGING))?;
            beneath::own(&folder, 0o700)?;
            Ok::<_, io::Error>(folder)
        };
        Ok(Self {
            home,
            folder: make().during("stage the work-disk plan")?,
            steps: Vec::new(),
            latest: HashMap::new(),
            open: None,
        })
    }

    /// Takes the next step. Where it has content, [`Self::content`] and [`Self::end`] follow.
    ///
    /// # Errors
    /// When the step itself is wrong, or the disk is full.
    pub fn begin(&mut self, step: PlanStep) -> Result<(), Failure> {
        self.check(&step).during(name(&step))?;
        let open = match &step {
            PlanStep::WriteFile { size, .. } => Some(Open::File {
                file: self.create(self.steps.len()).during(name(&step))?,
                left: *size,
            }),
            PlanStep::EnsureBlock { size, .. } => {
                Some(Open::Block { content: Vec::new(), left: *size })
            }
            PlanStep::MakeDirectory { .. } | PlanStep::Symlink { .. } | PlanStep::Remove { .. } => {
                None
            }
        };
        self.open = open;
        self.steps.push(step);
        if self.open.is_none() {
            self.done();
        }
        Ok(())
    }

    /// Takes a piece of the current step's content.
    ///
    /// # Errors
    /// When it is more than was announced, or the disk is full.
    pub fn content(&mut self, piece: &[u8]) -> Result<(), Failure> {
        let taken = match &mut self.open {
            None => Err(wrong("no content was due")),
            Some(Open::File { left, .. } | Open::Block { left, .. })
                if (piece.len() as u64) > *left =>
            {
                Err(wrong("the content is longer than announced"))
            }
            Some(Open::File { file, left }) => {
                *left -= piece.len() as u64;
                file.write_all(piece)
            }
            Some(Open::Block { content, left }) => {
                *left -= piece.len() as u64;
                content.extend_from_slice(piece);
                Ok(())
            }
        };
        taken.during(self.current())
    }

    /// Ends the current step's content.
    ///
    /// # Errors
    /// When it is less than was announced, or a block cannot be put into its file.
    pub fn end(&mut self) -> Result<(), Failure> {
        let ended = match self.open.take() {
            None => Err(wrong("no content was due")),
            Some(Open::File { left, .. } | Open::Block { left, .. }) if left > 0 => {
                Err(wrong("the content is shorter than announced"))
            }
            Some(Open::File { file, .. }) => self.finish(&file),
            Some(Open::Block { content, .. }) => self.merge(&content),
        };
        ended.during(self.current())?;
        self.done();
        Ok(())
    }

    /// Puts everything in its place. When it fails in the middle, what was done stays.
    ///
    /// # Errors
    /// Names the step that could not be done.
    pub fn commit(self) -> Result<(), Failure> {
        if self.open.is_some() {
            return Err(Failure::new(self.current(), "its content was cut off"));
        }
        self.home.sync().during("sync the staged contents")?;
        for (number, step) in self.steps.iter().enumerate() {
            self.place(number, step).during(name(step))?;
        }
        remove_tree(self.home, OsStr::new(STAGING)).during("clear the staging folder")?;
        self.home.sync().during("sync the work disk")
    }

    fn check(&self, step: &PlanStep) -> io::Result<()> {
        let path = beneath::relative(step.path())?;
        if self.open.is_some() {
            return Err(wrong("the step before it was cut off"));
        }
        if path.components().next() == Some(Component::Normal(OsStr::new(STAGING))) {
            return Err(wrong("that folder is cove's own"));
        }
        match step {
            PlanStep::MakeDirectory { mode, .. }
            | PlanStep::WriteFile { mode, .. }
            | PlanStep::EnsureBlock { mode, .. }
                if *mode > 0o7777 =>
            {
                Err(wrong("its mode has more than permission bits"))
            }
            PlanStep::EnsureBlock { size, .. } if *size > MAX_BLOCK_FILE => {
                Err(wrong("the block is longer than 1 MiB"))
            }
            PlanStep::Symlink { target, .. } if !stays_inside(path, target) => {
                Err(wrong("the link would lead out of the home"))
            }
            PlanStep::MakeDirectory { .. }
            | PlanStep::WriteFile { .. }
            | PlanStep::EnsureBlock { .. }
            | PlanStep::Symlink { .. }
            | PlanStep::Remove { .. } => Ok(()),
        }
    }

    fn create(&self, number: usize) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        Ok(rustix::fs::openat(&self.folder, number.to_string(), flags, mode)?.into())
    }

    /// Gives the current step's staged file its mode.
    fn finish(&self, file: &File) -> io::Result<()> {
        match self.steps.last() {
            Some(PlanStep::WriteFile { mode, .. } | PlanStep::EnsureBlock { mode, .. }) => {
                beneath::own(file, *mode)
            }
            _ => Err(wrong("it has no content")),
        }
    }

    /// Stages the file of the current ensure-block step with the block in it. An empty block for a file
    /// that is not there stages nothing.
    fn merge(&self, content: &[u8]) -> io::Result<()> {
        let Some(PlanStep::EnsureBlock { path, marker, at, .. }) = self.steps.last() else {
            return Err(wrong("it has no block"));
        };
        let old = self.present(beneath::relative(path)?)?;
        if old.is_none() && content.is_empty() {
            return Ok(());
        }
        let new = block::ensure(&old.unwrap_or_default(), marker, content, *at)
            .map_err(io::Error::other)?;
        let mut file = self.create(self.steps.len() - 1)?;
        file.write_all(&new)?;
        self.finish(&file)
    }

    /// What will be at a path once the steps so far are done.
    fn present(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let Some(&number) = self.latest.get(&normal(path)) else {
            return self.home.read(path, MAX_BLOCK_FILE);
        };
        match &self.steps[number] {
            PlanStep::Remove { .. } => Ok(None),
            PlanStep::MakeDirectory { .. } => Err(wrong("the plan makes a folder there")),
            PlanStep::Symlink { .. } => Err(wrong("the plan makes a link there")),
            PlanStep::WriteFile { .. } | PlanStep::EnsureBlock { .. } => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let name = number.to_string();
                let file = match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
                    Err(Errno::NOENT) => return Ok(None),
                    file => File::from(file?),
                };
                let mut content = Vec::new();
                file.take(MAX_BLOCK_FILE + 1).read_to_end(&mut content)?;
                if content.len() as u64 > MAX_BLOCK_FILE {
                    return Err(wrong("the file is longer than 1 MiB"));
                }
                Ok(Some(content))
            }
        }
    }

    fn done(&mut self) {
        if let Some(step) = self.steps.last() {
            let path = normal(Path::new(step.path()));
            self.latest.insert(path, self.steps.len() - 1);
        }
    }

    fn current(&self) -> String {
        self.steps.last().map_or_else(|| "read the plan".to_owned(), name)
    }

    fn place(&self, number: usize, step: &PlanStep) -> io::Result<()> {
        let path = beneath::relative(step.path())?;
        match step {
            PlanStep::MakeDirectory { mode, .. } => {
                beneath::own(self.home.make_folder(path)?, *mode)
            }
            PlanStep::Remove { .. } => self.remove(path),
            PlanStep::Symlink { target, .. } => {
                rustix::fs::symlinkat(target.as_str(), &self.folder, number.to_string())?;
                self.rename(number, path)
            }
            PlanStep::WriteFile { .. } => self.rename(number, path),
            PlanStep::EnsureBlock { size, .. } => match self.rename(number, path) {
                // Nothing to take the block out of.
                Err(error) if *size == 0 && error.kind() == io::ErrorKind::NotFound => Ok(()),
                renamed => renamed,
            },
        }
    }

    fn rename(&self, number: usize, path: &Path) -> io::Result<()> {
        let staged = number.to_string();
        rustix::fs::statat(&self.folder, &staged, AtFlags::SYMLINK_NOFOLLOW)?;
        let (parent, name) = self.home.make_parent(path)?;
        match rustix::fs::renameat(&self.folder, &staged, &parent, &name) {
            Err(Errno::ISDIR) => Err(wrong("a folder is in the way")),
            renamed => Ok(renamed?),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let above = match path.parent().filter(|above| *above != Path::new("")) {
            None => self.home.folder(Path::new(".")),
            Some(above) => self.home.folder(above),
        };
        let above = match above {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            above => above?,
        };
        let name = path.file_name().unwrap_or_default();
        match rustix::fs::unlinkat(&above, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) if beneath::is_folder(&above, name) => {
                Err(wrong("it is a folder"))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A step as messages name it.
fn name(step: &PlanStep) -> String {
    let verb = match step {
        PlanStep::MakeDirectory { .. } => "make the folder",
        PlanStep::WriteFile { .. } => "write",
        PlanStep::EnsureBlock { .. } => "keep a block in",
        PlanStep::Symlink { .. } => "make the link",
        PlanStep::Remove { .. } => "remove",
    };
    format!("{verb} `~/{}`", step.path().escape_debug())
}

fn wrong(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

/// Whether a link at `path` with this target stays in the home, going by the text alone.
fn stays_inside(path: &Path, target: &str) -> bool {
    let mut depth = normal(path).components().count() - 1;
    !target.is_empty()
        && !target.contains('\0')
        && Path::new(target).components().all(|part| match part {
            Component::Normal(_) => {
                depth += 1;
                true
            }
            Component::CurDir => true,
            Component::ParentDir => {
                let inside = depth > 0;
                depth = depth.saturating_sub(1);
                inside
            }
            Component::RootDir | Component::Prefix(_) => false,
        })
}

#[cfg(test)]
mod tests;
