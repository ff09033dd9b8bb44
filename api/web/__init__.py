"""What stands in front of Streamlit: the gate, the headers, signing in and out, the SRS routes."""
