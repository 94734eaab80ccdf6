print("fedpeat")
