//! Sans-I/O boot decisions: DHCP, boot plan, TFTP, the boot session.
