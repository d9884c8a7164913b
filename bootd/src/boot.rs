//! What happens when a client asks for its boot script: its disk is made, then the script.
