//! What boots beside iPXE: PXELINUX and GRUB on whole machines, each with a menu made for its client; and what they and
//! installers fetch, with stock programs as the judges of it.

mod machines;
mod served;
