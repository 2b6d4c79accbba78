mod bodies;
mod gate;
mod places;
mod reviews;
