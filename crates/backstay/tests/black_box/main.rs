//! The program as its users meet it, from outside: `lab` runs it, the others say what it must do.

mod cli;
mod config;
mod doctor;
mod keys;
mod lab;
mod upkeep;
