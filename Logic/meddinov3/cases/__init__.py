"""Libraries of annotated cases, their pictures, and what a user changed. Free of torch."""
