"""What stands in front of Streamlit."""
