"""etcd's services, one thin module each: check, hand over to the server, encode the answer."""
