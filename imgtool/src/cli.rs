//! The command line: verbs and their help. The flags of a verb stand beside its work in `cmd/<verb>.rs`.

use clap::{Parser, Subcommand};

use crate::cmd;

/// Pull, push, build and unpack container images
#[derive(Debug, Parser)]
#[command(
    name = "imgtool",
    version,
    propagate_version = true,
    max_term_width = 110,
    args_override_self = true
)]
#[command(
    after_help = "Images live in an OCI image layout at /var/lib/bulkhead/images (BULKHEAD_STORE), which any \
                        OCI tool can read. BULKHEAD_STORES (or the lines of \
                        /etc/bulkhead/stores) names further stores whose images and layers are used without being \
                        written.\nExit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 exists or wrong \
                        state, 5 busy, 6 registry, 7 not supported here."
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs. Deferred: only the one that is asked for is built, which is most of the time of a short command.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
pub enum Command {
    /// List images
    #[command(visible_alias = "ls")]
    Images(cmd::images::Args),
    /// Show everything about images as JSON
    Inspect(cmd::inspect::Args),
    /// Show how an image was made, layer by layer
    History(cmd::history::Args),
    /// Show an image's layers as a tree, with the images that end at each
    Tree(cmd::tree::Args),
    /// Give an image a further name
    Tag(cmd::tag::Args),
    /// Take names away from an image, which stays
    Untag(cmd::untag::Args),
    /// Remove names, and images that lose their last one
    #[command(visible_alias = "rm")]
    Rmi(cmd::rmi::Args),
    /// Remove images that have no name, or that nothing uses
    Prune(cmd::prune::Args),
    /// Pass a socket's bytes through TLS (for shim)
    #[command(hide = true)]
    Relay(cmd::relay::Args),
    /// Change a stream's compression (for shim)
    #[command(hide = true)]
    Recompress(cmd::recompress::Args),
    /// Fetch images from a registry
    Pull(cmd::pull::Args),
    /// Send an image to a registry
    Push(cmd::push::Args),
    /// Write images to an archive
    Save(cmd::save::Args),
    /// Read images from an archive
    Load(cmd::load::Args),
    /// Make an image of a root file system's archive
    Import(cmd::import::Args),
    /// Copy an image from any place to any other
    Copy(cmd::copy::Args),
    /// Store credentials for a registry
    Login(cmd::login::Args),
    /// Forget the credentials for a registry
    Logout(cmd::logout::Args),
    /// List the tags of a repository in a registry
    ListTags(cmd::list_tags::Args),
    /// List the repositories of a registry
    #[command(visible_alias = "search")]
    Catalog(cmd::catalog::Args),
    /// Show an image's manifest in a registry
    Manifest(cmd::manifest::Args),
    /// Print the digest of an image in a registry
    Digest(cmd::manifest::DigestArgs),
    /// Delete images from a registry
    Delete(cmd::manifest::DeleteArgs),
    /// List what refers to an image in a registry: signatures, bills of materials
    #[command(visible_alias = "discover")]
    Referrers(cmd::referrers::Args),
    /// Keep any files in a registry: push, attach to an image, pull
    Artifact(cmd::artifact::Args),
    /// Put images for several platforms under one name
    Index(cmd::index::Args),
    /// Copy all images of a repository, a layout or the store to another place
    Sync(cmd::sync::Args),
    /// Build an image from a Dockerfile
    Build(Box<cmd::build::Args>),
    /// Make an image of a bundle's changes
    Commit(cmd::commit::Args),
    /// Show which files a bundle changed, or two images differ in
    Diff(cmd::diff::Args),
    /// Make an OCI bundle from an image: a mounted rootfs and a config.json
    Bundle(cmd::bundle::Args),
    /// Mount a bundle's rootfs again
    Mount(cmd::mount::Args),
    /// Unmount a bundle's rootfs
    #[command(visible_alias = "unmount")]
    Umount(cmd::umount::Args),
    /// Remove a bundle and let its layers go
    Unbundle(cmd::unbundle::Args),
    /// Run a command in an ordinary user's own namespaces, to see and use bundles
    Unshare(cmd::unshare::Args),
    /// Write a bundle's rootfs as a tar archive
    Export(cmd::export::Args),
    /// Make one layer of all the layers of an image
    Flatten(cmd::flatten::Args),
    /// Put archives on top of an image as further layers
    Append(cmd::append::Args),
    /// Put a file or directory of this machine into an image, or delete one there
    Insert(cmd::insert::Args),
    /// Put an image's own layers on top of another base
    Rebase(cmd::rebase::Args),
    /// Change an image's config: ENV, CMD, labels, …
    Config(cmd::config::Args),
    /// Read images to their end and compare them with their digests
    Verify(cmd::verify::Args),
}
